#!/bin/sh
# chpnet-stream into an environment that has its packages already, and a look whether all is there.
#
#   docker/product.sh /opt/chpnet-stream /dist/chpnet_stream-*.whl
set -eu
prefix=$1
wheel=$2
"$prefix/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --quiet \
    --no-deps --no-index "$wheel"
"$prefix/bin/python" -m pip check
"$prefix/bin/chpnet-stream" --version
# Gadgetron's chains are where a Gadgetron in this environment looks for them, and are good.
for chain in chpnet_cartesian chpnet_cartesian_connect chpnet_buffers chpnet_grappa_enhance; do
    test -s "$prefix/share/gadgetron/config/$chain.xml" || {
        echo "$prefix/share/gadgetron/config/$chain.xml: expected a chain there, found none" >&2
        exit 1
    }
    told=$("$prefix/bin/chpnet-stream" chain "$prefix/share/gadgetron/config/$chain.xml" 2>&1) || {
        echo "$told" >&2
        exit 1
    }
done
