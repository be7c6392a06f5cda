"""Two models beside each other: python analysis/compare_models.py --small results/gpt2-small --medium results/gpt2-medium."""

import os
import sys
from pathlib import Path

environment = Path(__file__).resolve().parents[1] / ".venv/bin/python"
python = str(environment) if environment.exists() else sys.executable
os.execv(python, [python, "-m", "ghosttrack.stages.report", "compare", *sys.argv[1:]])
