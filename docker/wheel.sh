#!/bin/sh
# The wheel of this checkout, built by the packages of build.lock and nothing else.
#
#   docker/wheel.sh SOURCE FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$1
out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/packages.sh" "$work/tools" "$here/build.lock"
"$work/tools/bin/python" -m pip wheel --no-cache-dir --disable-pip-version-check --quiet \
    --no-deps --no-build-isolation --wheel-dir "$out" "$source"
