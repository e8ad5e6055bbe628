#!/bin/sh
# Make the virtual environment: `setup.sh` for use, `setup.sh dev` with the tools for tests and linters. With LOCKED=1 `dev`
# takes every package but PyTorch from requirements/ci.lock: one version each, checked by its hash.
# PyTorch comes first and by itself, because which build is right depends on the machine: with an NVIDIA GPU the
# default (CUDA) build, without one the CPU build, which is a tenth of the size.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
CPU_TORCH=$(grep '^torch==' requirements/torch.txt)

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $PYTHON is $("$PYTHON" --version 2>&1), logitrail needs Python 3.11 or newer; set PYTHON=..." >&2
    exit 2
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check install --quiet "$@" 2>&1 | grep -v "^WARNING: Location" || true; }

if ! "$VENV/bin/python" -W ignore -c 'import torch' 2>/dev/null; then
    if [ -n "${TORCH:-}" ]; then
        pip "$TORCH"
    elif command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        echo "GPU found: installing the CUDA build of PyTorch"
        pip "torch>=2.13.0"
    elif [ "$(uname -s)" = Linux ] && [ -z "${PIP_FIND_LINKS:-}" ] && command -v uv >/dev/null 2>&1; then
        # pip alone would take the CUDA build on Linux; uv knows where the CPU builds are.
        echo "no GPU found: installing the CPU build of PyTorch (uv)"
        uv pip install --quiet --python "$VENV/bin/python" --torch-backend=cpu "$CPU_TORCH"
    else
        echo "no GPU found: installing $CPU_TORCH"
        pip "$CPU_TORCH"
    fi
fi
"$VENV/bin/python" -W ignore -c 'import torch' || { echo "error: PyTorch was not installed; see above, or set TORCH=..." >&2; exit 2; }

echo "installing logitrail${1:+ with the $1 extra}"
if [ "${1:-}" = dev ] && [ -n "${LOCKED:-}" ]; then
    said=$("$VENV/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps \
        -r requirements/ci.lock 2>&1) || { echo "$said" | grep -v "^WARNING: Location" >&2; exit 2; }
    pip --no-deps --no-build-isolation --editable .
else
    pip --editable ".${1:+[$1]}"
fi
"$VENV/bin/python" -c 'import logitrail.stages.run' || { echo "error: logitrail was not installed; see above" >&2; exit 2; }
