"""`chpnet-stream pipe`: a scan from standard input, its images to standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.serving import default_properties, pairs
from chpnet_stream.schema import SETTINGS

if TYPE_CHECKING:
    from chpnet_stream.mrd.wire.connection import Connection

FORMATS = ("mrd1", "mrd2")


@click.command("pipe")
@click.option(
    "--input-format",
    type=click.Choice(FORMATS),
    default="mrd1",
    show_default=True,
    help="Standard input: messages of MRD v1, as ismrmrd_hdf5_to_stream writes them, or MRD v2.",
)
@click.option(
    "--output-format",
    type=click.Choice(FORMATS),
    help="Standard output. [default: as the input]",
)
@click.option("--config", metavar="NAME", help="A configuration (see `serve --list`).")
@click.option("--model", metavar="NAME|FILE", help=SETTINGS["model"].description)
@click.option(
    "--engine", type=click.Choice(SETTINGS["engine"].choices), help=SETTINGS["engine"].description
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any property, in place of what the configuration says.",
)
@click.option(
    "--noise",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Noise covariance (MRD v2) for scans without a noise scan of their own.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all cores]")
def command(
    input_format: str,
    output_format: str | None,
    config: str | None,
    model: str | None,
    engine: str | None,
    properties: tuple[str, ...],
    noise: Path | None,
    threads: int | None,
) -> None:
    """Reconstruct one scan from standard input to standard output.

    Stands between ismrmrd_hdf5_to_stream and ismrmrd_stream_to_hdf5, Gadgetron's and Pingvin's
    streams, and Tyger's buffers. Acquisitions are reconstructed, images enhanced, everything else
    is handed on. Standard output has messages only; errors go to standard error, and into the
    stream as far as its format can tell them.
    """
    import logging
    import os
    import sys
    from dataclasses import replace

    from chpnet_stream.configurations import Configurations
    from chpnet_stream.errors import ConfigurationError
    from chpnet_stream.mrd.wire.byte_stream import PipeStream
    from chpnet_stream.options import ReconstructionOptions
    from chpnet_stream.streaming.mrd_scan import MrdScan

    streams = {"stdin": "a scan from a pipe or a file", "stdout": "one"}
    for name, what in streams.items():
        stream = getattr(sys, name)
        if stream is None or stream.isatty():
            found = "closed" if stream is None else "a terminal"
            raise ConfigurationError(
                f"{name} is {found}, expected {what}: ismrmrd_hdf5_to_stream -i IN.h5 --use-stdout "
                "| chpnet-stream pipe | ismrmrd_stream_to_hdf5 --use-stdin -o OUT.h5"
            )
    asked = Configurations().named(config or "")
    defaults = {
        **asked.properties,
        **default_properties((), model, engine),
        **pairs("--property", properties),
    }
    ReconstructionOptions.from_properties(defaults)  # told before anything is read
    source, sink = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever prints, it is no message
    connection = _connection(PipeStream(source, sink), input_format, output_format or input_format)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    # The error that ends the command says the same.
    scans = logging.getLogger("chpnet_stream.streaming.scan")
    scans.addFilter(lambda record: record.levelno < logging.ERROR)
    scan = MrdScan(connection, defaults=defaults, name="pipe", in_pipe=True)
    scan.preset(replace(asked, properties={}), _noise(noise) if noise is not None else None)
    scan.run()


def _connection(stream: Any, input_format: str, output_format: str) -> Connection:
    """The conversation over the pipe, in the formats that are asked for."""
    from chpnet_stream.mrd.wire.connection import Connection

    reader: Any = None
    writer: Any = None
    if input_format == "mrd2":
        from chpnet_stream.mrd.v2.reader import Mrd2Reader

        reader = Mrd2Reader(stream)
    if output_format == "mrd2":
        from chpnet_stream.mrd.v2.writer import Mrd2Writer

        writer = Mrd2Writer(stream, lambda: getattr(reader, "header", None))
    return Connection(stream, "mrd", reader=reader, writer=writer, one_way=True)


def _noise(path: Path) -> Any:
    from chpnet_stream.scan.noise_file import read_noise

    return read_noise(path)
