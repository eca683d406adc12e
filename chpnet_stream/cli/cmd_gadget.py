"""`chpnet-stream gadget`: a warm server for Gadgetron's `<connect>`."""

from __future__ import annotations

import click

from chpnet_stream.cli.serving import (
    default_properties,
    options_of,
    run_server,
    serving_options,
    start_server_log,
)
from chpnet_stream.cli.watching import Watching, watching_options
from chpnet_stream.schema import EVERY


@click.command("gadget")
@serving_options(port=18000, peers="chains")
@click.option(
    "--gadget",
    "kind",
    type=click.Choice(EVERY),
    default="acquisitions",
    show_default=True,
    help="What the chain sends here: acquisitions; buffers or buckets; images or image arrays.",
)
@watching_options
def command(
    port: int,
    host: str,
    kind: str,
    model: str | None,
    engine: str | None,
    properties: tuple[str, ...],
    workers: int,
    connections: int,
    patience: float,
    idle: float,
    threads: int | None,
    watching: Watching,
) -> None:
    """Serve scans to Gadgetron chains with `<connect port="18000"/>`.

    The model is loaded before the first scan comes. Scans are told in one line each, on stderr.
    SIGTERM or Ctrl-C lets the running scans finish; a second one ends at once.
    """
    from typing import cast

    from chpnet_stream.server import GadgetServer
    from chpnet_stream.streaming.scan import Kind

    defaults = default_properties(properties, model, engine)
    options = options_of(defaults)
    start_server_log(as_json=watching.log_json)
    with watching.observers("gadget") as observers:
        server = GadgetServer(
            cast(Kind, kind),
            host,
            port,
            workers=workers,
            connections=connections,
            defaults=defaults,
            patience=patience,
            idle=idle,
            observers=observers,
        )
        run_server(server, kind, options, threads, warm=kind != "images")
