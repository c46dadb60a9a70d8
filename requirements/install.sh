#!/bin/sh
# Makes an environment and puts the pinned, hashed packages of requirements/NAME.txt into it:
#   requirements/install.sh run|dev        into .venv, with the toolkit itself
#   requirements/install.sh sdk FOLDER     into FOLDER
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
folder=${2:-.venv}

fail() { printf 'error: %s\n  next:     %s\n' "$1" "$2" >&2; exit 10; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    fail "$python is not Python 3.10 or newer" "install one, or name it: make setup PYTHON=/path/to/python3"

# Debian and Ubuntu ship Python without the part that makes environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package, which $python needs to make $folder" >&2
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package"; } >/dev/null
    else
        fail "$python cannot make virtual environments" "sudo apt-get install $package"
    fi
fi

[ -x "$folder/bin/python" ] && "$folder/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$folder"
echo "Installing requirements/$1.txt into $folder" >&2
"$folder/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
    --requirement "requirements/$1.txt"
[ "$folder" != .venv ] ||
    .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$folder/$1.done"
