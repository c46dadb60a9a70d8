#!/bin/sh
# Makes .venv and puts the pinned, hashed packages of requirements/NAME.txt and the toolkit itself into it:
#   requirements/install.sh run       what the verbs need
#   requirements/install.sh azure     and azureml-core, for those that talk to Azure ML
#   requirements/install.sh dev       and what the tests need
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() { printf 'error: %s\n  next:     %s\n' "$1" "$2" >&2; exit 10; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    fail "$python is not Python 3.10 or newer" "install one, or name it: make setup PYTHON=/path/to/python3"

# Debian and Ubuntu ship Python without the part that makes environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package, which $python needs to make .venv" >&2
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package"; } >/dev/null
    else
        fail "$python cannot make virtual environments" "sudo apt-get install $package"
    fi
fi

[ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || "$python" -m venv --clear .venv
echo "Installing requirements/$1.txt into .venv" >&2
.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
    --requirement "requirements/$1.txt"
.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch ".venv/$1.done"
