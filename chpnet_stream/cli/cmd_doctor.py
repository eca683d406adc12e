"""`chpnet-stream doctor`: what this machine can do, and what to do about the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chpnet_stream.doctor.finding import Finding

MARKS = {
    "ok": ("ok", "green"),
    "info": ("-", "dim"),
    "warn": ("look", "yellow"),
    "fail": ("FAIL", "bold red"),
}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--model", metavar="NAME|FILE", help="Model of the dry runs. [default: chpnet-rt]")
@click.option(
    "--matrix",
    type=click.IntRange(64, 512),
    default=256,
    show_default=True,
    help="Matrix of the dry runs (8 coils, R = 4).",
)
@click.option("--no-engines", is_flag=True, help="Run no engines: an answer in a few seconds.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="An engine that takes longer is given up.",
)
@click.option(
    "--port",
    "ports",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="Ports to look at.  [default: 18000, 9002]",
)
@click.option(
    "--answers",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Look at nothing else than whether a server of ours takes scans there: for health checks.",
)
def command(
    as_json: bool,
    model: str | None,
    matrix: int,
    no_engines: bool,
    timeout: float,
    ports: tuple[int, ...],
    answers: int | None,
) -> int:
    """Say what this machine can do, and what to do about the rest.

    Looks at Python and packages, processor, memory and GPU, models, folders, ports, Gadgetron and
    other programs, and reconstructs some slices by every engine. Nothing is changed or downloaded.

    Each line is ok, - (not there, and not needed), look (works, but see what it says) or FAIL. The
    exit code is 1 if something that is needed fails, else 0.
    """
    import sys

    from chpnet_stream import __version__
    from chpnet_stream.doctor.examination import Examination
    from chpnet_stream.doctor.ports import PORTS, serving_finding
    from chpnet_stream.json_text import json_text
    from chpnet_stream.network.weights import DEFAULT_MODEL, find_model

    if model is not None:
        find_model(model)  # a wrong name is told at once
    examination = Examination(
        model or DEFAULT_MODEL, matrix, not no_engines, timeout, ports or tuple(PORTS)
    )

    shown = sys.stderr is not None and sys.stderr.isatty()

    def progress(section: str) -> None:
        if shown:
            click.echo(f"\r\x1b[Klooking at: {section} ...", err=True, nl=False)

    findings = [] if answers is None else [serving_finding(answers)]
    for finding in examination.findings(progress) if answers is None else ():
        findings.append(finding)
        progress(f"{finding.section}, {finding.name}")
    if shown:
        click.echo("\r\x1b[K", err=True, nl=False)
    failed = [f for f in findings if f.level == "fail"]
    if as_json:
        told = [f.told() for f in findings]
        click.echo(json_text({"version": __version__, "ok": not failed, "findings": told}))
    else:
        _print(findings)
    return 1 if failed else 0


def _print(findings: Sequence[Finding]) -> None:
    """A table of the findings, and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from chpnet_stream.cli.formatter import PIPE_WIDTH, text_of

    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            table.add_row(Text(""), Text(section, style="bold"), Text(""))
        mark, style = MARKS[finding.level]
        told = Text(text_of(finding.found))
        if finding.advice:
            told.append(f"\n-> {text_of(finding.advice)}", style="cyan")
        table.add_row(Text(mark, style=style), Text(f"  {text_of(finding.name)}"), told)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)
    counts = {level: sum(f.level == level for f in findings) for level in MARKS}
    verdict = "Something" if counts["fail"] else "Nothing"
    click.echo(
        f"\n{verdict} that is needed fails ({counts['fail']} failed, {counts['warn']} to look at)."
    )
