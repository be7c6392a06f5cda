"""What several stages need and that knows nothing of any one stage."""
