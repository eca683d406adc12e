"""`chpnet-stream send`: a scan in a file, sent as the scanner would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show

if TYPE_CHECKING:
    from chpnet_stream.client.report import SendReport
    from chpnet_stream.client.source import Source

REAL_TIME = "realtime"


class _Pace(click.ParamType):
    """`realtime`, or how many times faster."""

    name = "pace"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The factor.

        Raises:
            click.BadParameter: As said.
        """
        if str(value).lower() == REAL_TIME:
            return 1.0
        try:
            factor = float(value)
        except ValueError:
            factor = 0.0
        if not 0 < factor < float("inf"):
            self.fail(
                f"found '{value}', expected {REAL_TIME} or how many times faster, such as 4", param
            )
        return factor


@click.command("send")
@click.argument("source", metavar="IN.h5", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the server.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=9002,
    show_default=True,
    help="Its port: 9002 of `serve`, 18000 of `gadget`.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="ISMRMRD file of the images. [default: they are counted only]",
)
@click.option("--config", metavar="NAME", help="A configuration that the server has by this name.")
@click.option(
    "--config-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send this configuration itself: XML or JSON.",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    help="A property; with --config of an MRD server, in place of what the configuration says.",
)
@click.option(
    "--pace",
    type=_Pace(),
    metavar="realtime|FACTOR",
    help="Send by the scan's time stamps: in real time, or FACTOR times faster. [default: as fast "
    "as it goes]",
)
@click.option(
    "--tick-ms",
    type=click.FloatRange(0, min_open=True),
    default=2.5,
    show_default=True,
    help="Unit of the scan's time stamps, for --pace.",
)
@click.option(
    "--group", default="dataset", show_default=True, help="HDF5 group of the scan in its file."
)
@click.option("--images", "as_images", is_flag=True, help="Send the group's images, not raw data.")
@click.option(
    "--expect",
    "images",
    type=click.IntRange(0),
    metavar="N",
    help="Images that must come. [default: as the scan's counters promise]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Give the server up when nothing has moved for so long.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Go on trying for so long while nobody listens.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(
    source: Path,
    host: str,
    port: int,
    out: Path | None,
    config: str | None,
    config_file: Path | None,
    properties: tuple[str, ...],
    pace: float | None,
    tick_ms: float,
    group: str,
    as_images: bool,
    images: int | None,
    timeout: float,
    wait: float,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Send the scan IN.h5 (ISMRMRD) to a server, and gather its images.

    For `chpnet-stream serve`, `chpnet-stream gadget` and other MRD servers. Waveforms go too, in
    the order of time. Latency is told as a scanner would see it: from the last line of a slice
    sent to its image received. The status is 0 only if every image has come and the server told
    no error; what came of an incomplete scan is kept in OUT_incomplete.h5.
    """
    from chpnet_stream.cli.serving import pairs
    from chpnet_stream.client.exchange import Exchange, connect
    from chpnet_stream.client.pacing import Pacer
    from chpnet_stream.client.request import Request
    from chpnet_stream.client.source import Source
    from chpnet_stream.errors import ConfigurationError, InputError
    from chpnet_stream.mrd.image_file import ImageFile
    from chpnet_stream.whole_file import check_apart, check_target

    if config and config_file:
        raise ConfigurationError("found --config and --config-file, expected one of them")
    raw = config_file.read_bytes() if config_file is not None else b""
    request = Request(config or "", raw, pairs("--property", properties))
    if out is not None:
        check_apart(out, source)
        check_target(out, overwrite=overwrite)
    pacer = Pacer(pace, tick_ms) if pace is not None else None
    with Source(source, group, as_images=as_images) as scan:
        if pacer is not None and not scan.stamps_are_there():
            raise InputError(
                f"{source} has no time stamps that differ, expected some to pace by; send it "
                "without --pace"
            )
        sock = connect(host, port, wait)
        settings: dict[str, Any] = {"pacer": pacer, "timeout": timeout, "images": images}
        expected = scan.images if images is None else images
        server = f"{host} port {port}"
        if out is None:
            report = _run(Exchange(sock, scan, request, **settings), scan)
        else:
            with ImageFile(out, group, scan.header_xml, None, overwrite, as_received=True) as file:
                report = _run(Exchange(sock, scan, request, sink=file, **settings), scan)
                if report.error is not None and not report.images:
                    _print(report, server, expected, None, as_json)
                    raise report.error
                if scan.scan is not None:
                    try:
                        file.keep_waveforms(scan.scan)
                    except InputError as error:  # the images are worth keeping without them
                        report.error = report.error or error
                if report.error is not None:
                    out = file.save_incomplete()
    _print(report, server, expected, out, as_json)
    if report.error is not None:
        raise report.error


def _run(exchange: Any, scan: Source) -> SendReport:
    """The exchange, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    terminal = Console(stderr=True)
    bar = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    )
    with bar:
        sent = bar.add_task("sent", total=scan.total)
        came = bar.add_task("images", total=exchange.images or None)

        def tell(report: SendReport) -> None:
            bar.update(sent, completed=sum(report.sent.values()))
            most = max(report.series.values(), default=0)
            bar.update(came, completed=report.images if scan.series else most)

        report: SendReport = exchange.run(tell)
    return report


def _print(report: SendReport, server: str, expected: int, out: Path | None, as_json: bool) -> None:
    latency = report.latency()
    rows: dict[str, Any] = {
        "server": server,
        "sent": dict(report.sent),
        "duration_s": round(report.seconds, 3),
        "images": report.images,
        "expected_images": expected,
        "by_series": {f"series {number}": count for number, count in report.series.items()},
        "latency_p50_ms": latency.get("p50"),
        "latency_p95_ms": latency.get("p95"),
        "latency_p99_ms": latency.get("p99"),
        "latency_max_ms": latency.get("max"),
        "latency_first_ms": latency.get("first"),
        "other_messages": dict(report.others),
        "texts": report.texts,
        "pauses_left_out": report.gaps,
        "file": str(out) if out is not None else None,
    }
    if as_json:
        rows["error"] = None if report.error is None else str(report.error)
    show(rows, title="Sent", as_json=as_json)
