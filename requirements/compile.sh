#!/bin/sh
# Pins and hashes every dependency of pyproject.toml, for every Python and platform at once. Run it to take newer versions:
#   requirements/compile.sh            (keeps what is pinned)
#   requirements/compile.sh --upgrade  (takes the newest)
# The index is the one that uv is configured for; its address stays out of the files.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
    --no-annotate --custom-compile-command requirements/compile.sh "$@"; }
command -v uv >/dev/null || { echo "requirements/compile.sh: uv is not installed; next: python3 -m pip install uv" >&2; exit 1; }
compile pyproject.toml --extra azure --output-file requirements/azure.txt "$@"
compile pyproject.toml --constraint requirements/azure.txt --output-file requirements/run.txt "$@"
compile pyproject.toml --extra azure --extra dev --constraint requirements/azure.txt --output-file requirements/dev.txt "$@"
