#!/usr/bin/env bash
# Makes or renews the virtual environment: scripts/install.sh [VENV]
#
# torch comes first and by itself: where there is no NVIDIA device the CPU build is taken if it is to be had, from
# where pip looks anyway or from PyTorch's own index, so that no one downloads gigabytes of CUDA for nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3.11}
wanted=$(cat constraints.txt pyproject.toml scripts/install.sh | sha256sum | cut -d' ' -f1)
[ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ] && exit 0

torch=$(sed -n 's/^torch==//p' constraints.txt)
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

install_torch() {
    if [ ! -e /dev/nvidiactl ]; then
        pip install --no-deps --retries 0 "torch==$torch+cpu" 2>/dev/null && return
        pip install --no-deps --retries 0 --timeout 15 --index-url https://download.pytorch.org/whl/cpu "torch==$torch" 2>/dev/null && return
    fi
    pip install --no-deps "torch==$torch"
}

echo "Installing into $venv: a few minutes the first time"
"$venv/bin/python" -c "import importlib.metadata as m; assert m.version('torch').split('+')[0] == '$torch'" 2>/dev/null || install_torch
pip install --constraint constraints.txt --editable '.[all]'
echo "$wanted" >"$venv/.installed"
