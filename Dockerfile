# syntax=docker/dockerfile:1
# chpnet-stream as a server for MRD clients, with its live view.
#
#   docker build -t chpnet-stream .                          # for a CPU, the default
#   docker build -t chpnet-stream:cuda --target cuda .       # for NVIDIA GPUs, with TensorRT for RTX
#   docker run --rm -p 127.0.0.1:9002:9002 -p 127.0.0.1:8080:8080 chpnet-stream
#   docker run --rm --gpus all -p 127.0.0.1:9002:9002 chpnet-stream:cuda
#   docker run --rm -p 127.0.0.1:18000:18000 -e CHPNET_HEALTH_PORT=18000 chpnet-stream \
#       gadget --host 0.0.0.0                                # for <connect>
#   docker run --rm --no-healthcheck --user "$(id -u):$(id -g)" -v "$PWD:/data" chpnet-stream \
#       offline /data/scan.h5                                # --user: who may write to that folder
#
# Inside it listens on all addresses, so that the published ports decide who reaches it: publish them
# on 127.0.0.1, or where a firewall knows them. The live view then asks for a token, which stands in
# the log; docker run -e CHPNET_DASHBOARD_TOKEN=... sets one.
#
# docs/docker.md says more: plans that are kept, Gadgetron beside it, the label for OpenRecon. Every
# step is a script in docker/, which runs without Docker, too.

# A release is built with the digest behind it: --build-arg PYTHON=3.11.14-slim-bookworm@sha256:...
# Another Python than 3.11 needs another checksum in docker/lock_for.py.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS tools
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY docker docker
COPY requirements.lock ./

# The packages are layers of their own: they change less often than we do.
FROM tools AS packages-cpu
RUN python docker/lock_for.py cpu requirements.lock > packages.lock \
    && docker/packages.sh /opt/chpnet-stream packages.lock

FROM tools AS packages-cuda
RUN python docker/lock_for.py cuda requirements.lock > packages.lock \
    && docker/packages.sh /opt/chpnet-stream packages.lock

FROM tools AS wheel
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY chpnet_stream chpnet_stream
COPY training training
COPY gadgets gadgets
COPY configs configs
RUN docker/wheel.sh . /dist

# What both images have in common.
FROM python:${PYTHON} AS runtime
ENV PATH=/opt/chpnet-stream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/var/cache/chpnet-stream \
    XDG_STATE_HOME=/var/lib/chpnet-stream \
    CHPNET_HEALTH_PORT=9002
RUN useradd --system --create-home --uid 999 chpnet \
    && mkdir -p "$XDG_CACHE_HOME" "$XDG_STATE_HOME" \
    && chown chpnet "$XDG_CACHE_HOME" "$XDG_STATE_HOME"
EXPOSE 9002 18000 8080
# Of a server; for commands that end: docker run --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s \
    CMD chpnet-stream doctor --answers "$CHPNET_HEALTH_PORT"
# SIGTERM lets the running scans finish.
STOPSIGNAL SIGTERM
ENTRYPOINT ["chpnet-stream"]
CMD ["serve", "--host", "0.0.0.0", "--dashboard", "8080", "--dashboard-host", "0.0.0.0"]

FROM runtime AS cuda
# CUDA's libraries are among the packages; of the host only the driver is taken (--gpus all).
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-cuda /opt/chpnet-stream /opt/chpnet-stream
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    --mount=type=bind,from=tools,source=/src/docker,target=/docker \
    /docker/product.sh /opt/chpnet-stream /dist/*.whl
USER chpnet

FROM runtime AS cpu
COPY --from=packages-cpu /opt/chpnet-stream /opt/chpnet-stream
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    --mount=type=bind,from=tools,source=/src/docker,target=/docker \
    /docker/product.sh /opt/chpnet-stream /dist/*.whl
USER chpnet
