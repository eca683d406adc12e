"""`chpnet-stream gadget`: a warm server for Gadgetron's `<connect>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chpnet_stream.schema import EVERY, SETTINGS

if TYPE_CHECKING:
    from chpnet_stream.options import ReconstructionOptions
    from chpnet_stream.streaming.engine_pool import EnginePool


@click.command("gadget")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=18000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Anybody who reaches it can send scans.",
)
@click.option(
    "--gadget",
    "kind",
    type=click.Choice(EVERY),
    default="acquisitions",
    show_default=True,
    help="What the chain sends here: acquisitions; buffers or buckets; images or image arrays.",
)
@click.option("--model", metavar="NAME|FILE", help="Model of chains that name none.")
@click.option(
    "--engine", type=click.Choice(SETTINGS["engine"].choices), help="Engine of such chains."
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any property of the gadgets, for chains that don't set it.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Scans at once; further ones wait.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all cores]")
def command(
    port: int,
    host: str,
    kind: str,
    model: str | None,
    engine: str | None,
    properties: tuple[str, ...],
    workers: int,
    threads: int | None,
) -> None:
    """Serve scans to Gadgetron chains with `<connect port="18000"/>`.

    The model is loaded before the first scan comes. Scans are told in one line each, on stderr.
    SIGTERM or Ctrl-C lets the running scans finish; a second one ends at once.
    """
    import logging
    import signal
    import sys
    from types import FrameType
    from typing import cast

    from chpnet_stream.errors import ConfigurationError
    from chpnet_stream.options import ReconstructionOptions
    from chpnet_stream.server import GadgetServer
    from chpnet_stream.streaming.scan import Kind

    defaults: dict[str, str] = {}
    for text in properties:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--property {text}: expected NAME=VALUE")
        defaults[name] = value
    defaults |= {n: v for n, v in (("model", model), ("engine", engine)) if v is not None}
    options = ReconstructionOptions.from_properties(defaults)

    # A server's log has times and tracebacks, unlike the one line of other commands.
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("chpnet_stream")
    logger.handlers = [log, *(h for h in logger.handlers if isinstance(h, logging.FileHandler))]
    logger.setLevel(min(logger.level or logging.INFO, logging.INFO))

    server = GadgetServer(cast(Kind, kind), host, port, workers=workers, defaults=defaults)

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    _warm(server.engines, kind, options, threads)
    logger.info(
        "listening on %s port %d for %s, up to %d scans at once", *server.address, kind, workers
    )
    server.serve()
    logger.info("stopped after %d scans, %d of them failed", server.scans, server.failed)


def _warm(
    engines: EnginePool, kind: str, options: ReconstructionOptions, threads: int | None
) -> None:
    """Load torch and the model, and run it once."""
    import torch

    from chpnet_stream.session import warm_up

    if threads is not None:
        torch.set_num_threads(threads)
    if kind != "images" and options.method == "chpnet":
        warm_up(engines.get(options.model, options.engine), 256, 256)
