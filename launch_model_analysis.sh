#!/usr/bin/env bash
# ./launch_model_analysis.sh MODEL [--set key=value …]: a model's whole pipeline. Where there is an sbatch, its script in jobs/
# goes to SLURM as one job, or the pipeline as a chain of jobs; else it runs here.
set -euo pipefail
model=${1:?which model? such as ./launch_model_analysis.sh gpt2-medium}
shift
cd "$(dirname "$0")"
script=jobs/${model//-/_}_full_pipeline.sbatch
if [ -f "$script" ] && command -v sbatch >/dev/null; then
    exec sbatch "$script" "$@"
fi
case $model in demo | smollm2-135m | gpt2-small | gpt2-medium) exec make "$model" ARGS="$*" ;; esac
exec .venv/bin/ghosttrack run "$model" "$@"
