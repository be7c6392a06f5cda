"""The pipeline: one package a stage; each is run as `python -m stages.<name>`."""
