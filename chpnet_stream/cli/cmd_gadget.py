"""`chpnet-stream gadget`: a warm server for Gadgetron's `<connect>`."""

from __future__ import annotations

import click

from chpnet_stream.cli.serving import Serving, run_server, serving_options, start_server_log
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
def command(serving: Serving, kind: str, watching: Watching) -> None:
    """Serve scans to Gadgetron chains with `<connect port="18000"/>`.

    The model is loaded before the first scan comes. Scans are told in one line each, on stderr.
    SIGTERM or Ctrl-C lets the running scans finish; a second one ends at once.
    """
    from typing import cast

    from chpnet_stream.server import GadgetServer
    from chpnet_stream.streaming.scan import Kind

    serving.options()  # faults are told before anything is loaded
    start_server_log(as_json=watching.log_json)
    with watching.observers("gadget") as observers:
        server = GadgetServer(
            cast(Kind, kind),
            serving.host,
            serving.port,
            observers=observers,
            **serving.settings(),
        )
        run_server(server, kind, serving, images=kind == "images")
