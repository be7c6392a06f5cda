#!/usr/bin/env bash
# Writes requirements.lock, requirements-dev.lock and slim.lock anew: every package with its exact version, one set for
# Python 3.10 and later. CUDA libraries are left out: pip takes those that the chosen torch build asks for.
# Usage: make lock
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
"$python" -m venv build/uv
build/uv/bin/pip install -q uv

# Versions stay as they are locked unless pyproject.toml asks for others; UPGRADE=1 takes the newest of everything. torch is
# the one that the images and CI have tried, and that some indices have as a build for CPUs.
echo "torch==2.13.0" > build/torch.pin
[ -z "${UPGRADE:-}" ] || : > containers/requirements.lock
resolve() {
    cp containers/requirements.lock build/preferred.txt
    cat containers/requirements-dev.lock >> build/preferred.txt
    build/uv/bin/uv pip compile -q --universal --python-version 3.10 --no-annotate --no-header -c build/torch.pin \
        -o build/preferred.txt "$@" > /dev/null
    grep -vE "^(nvidia|cuda|triton)[-=]|== '(emscripten|win32)'" build/preferred.txt |
        sed -E "s/ and sys_platform != 'emscripten'//; s/ ; sys_platform != 'emscripten'$//"
}

head="# Made by \`make lock\` from pyproject.toml; do not edit."
{ echo "$head"; resolve --extra demo pyproject.toml; } > containers/requirements.lock.new
mv containers/requirements.lock.new containers/requirements.lock
{
    echo "$head Tests and lint, beside requirements.lock."
    resolve --extra demo --extra dev -c containers/requirements.lock pyproject.toml | grep -vxFf containers/requirements.lock
} > containers/requirements-dev.lock.new
mv containers/requirements-dev.lock.new containers/requirements-dev.lock
{
    echo "$head For the images without torch: the part of requirements.lock that slim.in needs."
    resolve -c containers/requirements.lock containers/slim.in
} > containers/slim.lock.new
mv containers/slim.lock.new containers/slim.lock
