"""The `ghosttrack` command: plans, runs and watches stages, which it knows only by their contracts."""
