#!/bin/sh
# What a CI does with the environments of a project, the same in every CI:
#   ci/environment.sh lock [SPEC...]       fails if a lock does not answer its spec; needs no login
#   ci/environment.sh check [SPEC...]      for a proposed change: the lock, and whether a merge would register a version
#   ci/environment.sh push [SPEC...]       for the main branch: the lock, then builds and pushes what the registry lacks
#   ci/environment.sh register [SPEC...]   for the main branch: that, and registers; prints name:version
# SPEC: pytorch for environments/pytorch.yml; default: [environment] spec of parity.toml. The logins: docs/ci.md.
set -eu
cd "$(dirname "$0")/.."

# An engine is used where one answers; without one the image is built and pushed all the same.
export PARITY_ENGINE="${PARITY_ENGINE:-never}"

parity() {
    verb=$1
    shift
    .venv/bin/python -m tools "$verb" ${spec:+--env "$spec"} "$@"
}

lock() {
    parity lock --check
}

check() {
    lock
    parity register --check && return
    code=$?
    [ $code -eq 1 ] || exit $code # 1: it would, as is to be expected of a change
}

push() {
    lock
    parity push >&2
}

register() {
    push
    parity register
}

case "${1:-}" in
lock | check | push | register) step=$1 ;;
*)
    sed -n '2,/^set /s/^# //p' ci/environment.sh >&2
    exit 2
    ;;
esac
shift
[ $# -gt 0 ] || set -- ""
make --silent setup-azure >&2
for spec in "$@"; do
    "$step"
done
