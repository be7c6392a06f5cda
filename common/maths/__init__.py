"""Numbers that several stages need: metrics, calibration, seeds."""
