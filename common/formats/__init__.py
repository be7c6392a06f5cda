"""What stages publish: each file described once, for the stage that writes it and all that read it."""
