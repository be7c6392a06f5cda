"""A model's results as one HTML file: python visualization/dashboard.py --results results/gpt2-medium."""

import os
import sys
from pathlib import Path

environment = Path(__file__).resolve().parents[1] / ".venv/bin/python"
python = str(environment) if environment.exists() else sys.executable
os.execv(python, [python, "-m", "ghosttrack.stages.report", "dashboard", *sys.argv[1:]])
