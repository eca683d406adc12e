# syntax=docker/dockerfile:1
# chpnet-stream as a server for MRD clients, with its live view.
#
#   docker build -t chpnet-stream .
#   docker run --rm -p 127.0.0.1:9002:9002 -p 127.0.0.1:8080:8080 chpnet-stream
#   docker run --rm --gpus all -p 127.0.0.1:9002:9002 chpnet-stream        # with a GPU
#   docker run --rm -p 127.0.0.1:18000:18000 chpnet-stream gadget --host 0.0.0.0   # for <connect>
#   docker run --rm -v "$PWD:/data" chpnet-stream offline /data/scan.h5
#
# Inside it listens on all addresses, so that the published ports decide who reaches it: publish them
# on 127.0.0.1, or where a firewall knows them. The live view then asks for a token, which stands in
# the log; docker run -e CHPNET_DASHBOARD_TOKEN=... sets one.

FROM python:3.11-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python -m venv /opt/chpnet-stream
ENV PATH=/opt/chpnet-stream/bin:$PATH
# The packages first: they change less often than we do.
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY chpnet_stream chpnet_stream
COPY training training
COPY gadgets gadgets
COPY configs configs
RUN pip install --no-cache-dir --no-deps . && pip check

FROM python:3.11-slim
COPY --from=build /opt/chpnet-stream /opt/chpnet-stream
ENV PATH=/opt/chpnet-stream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/var/cache/chpnet-stream \
    XDG_STATE_HOME=/var/lib/chpnet-stream
RUN useradd --system --create-home chpnet \
    && mkdir -p "$XDG_CACHE_HOME" "$XDG_STATE_HOME" \
    && chown chpnet "$XDG_CACHE_HOME" "$XDG_STATE_HOME"
USER chpnet
EXPOSE 9002 18000 8080
# Of a server with the live view on its port; for other commands: docker run --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import socket; socket.create_connection(('127.0.0.1', 8080), 3).close()"]
# SIGTERM lets the running scans finish.
STOPSIGNAL SIGTERM
ENTRYPOINT ["chpnet-stream"]
CMD ["serve", "--host", "0.0.0.0", "--dashboard", "8080", "--dashboard-host", "0.0.0.0"]
