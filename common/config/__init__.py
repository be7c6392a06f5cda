"""What a user writes: configurations and cluster profiles, checked."""
