#!/bin/sh
# A virtual environment with every package of a lock file, checked against its checksums.
#
#   docker/packages.sh /opt/chpnet-stream packages.lock
#
# Nothing is left behind that the programs don't need: no cache, no pip's own copy of the wheels.
set -eu
prefix=$1
lock=$2
"${PYTHON:-python3}" -m venv "$prefix"
"$prefix/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --quiet \
    --require-hashes --requirement "$lock"
