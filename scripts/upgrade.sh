#!/usr/bin/env bash
# Renews constraints.txt: the newest versions that fit together, with torch and torchvision kept as a pair.
set -euo pipefail
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
pair=$(grep -E '^(torch|torchvision)==' constraints.txt)
"${PYTHON:-python3.11}" -m venv "$place/venv"
pip() { "$place/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
# shellcheck disable=SC2086
pip install $pair
pip install --constraint <(echo "$pair") --editable '.[all]'
{
    echo '# Every package at the version that was tested; renewed by `make upgrade`.'
    pip freeze --exclude-editable | sed 's/^\(torch==[^+]*\)+.*/\1/'
} >"$place/constraints.txt"
cp "$place/constraints.txt" constraints.txt
git diff --stat constraints.txt
