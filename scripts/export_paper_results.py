"""Tables, figures and macros for a paper: python scripts/export_paper_results.py --model gpt2-medium --output paper/results/."""

import os
import sys
from pathlib import Path

environment = Path(__file__).resolve().parents[1] / ".venv/bin/python"
python = str(environment) if environment.exists() else sys.executable
options = [
    option.replace("--model", "--config", 1) if option.startswith("--model") else option
    for option in sys.argv[1:]
]
os.execv(python, [python, "-m", "ghosttrack.stages.report", "export", *options])
