"""What stages publish: one module a file, for the stage that writes it and all that read it."""
