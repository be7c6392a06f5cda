"""The SLURM executor: job scripts, their submission in one go, and what became of them."""
