"""`chpnet-stream chain`: check a Gadgetron chain before the scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chpnet_stream.cli.formatter import show, show_list

if TYPE_CHECKING:
    from chpnet_stream.chain.report import Report


@click.command("chain")
@click.argument("name", metavar="FILE.xml|NAME", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the installed chains.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_list: bool, as_json: bool) -> None:
    """Check the chain FILE.xml, or the installed one called NAME.

    Checked are the XML, its structure, the classes of Gadgetron 4.7 with their libraries, what
    messages reach every node, and of our gadgets the module, the properties and the model's
    files. Unknown classes are only warned of. With errors the exit code is 2.
    """
    from chpnet_stream.chain.check import check_chain
    from chpnet_stream.chain.installed import find_chain
    from chpnet_stream.errors import ConfigurationError

    if as_list:
        _list(as_json)
        return
    if name is None:
        raise ConfigurationError("expected a chain, found none; --list lists the installed ones")
    report = check_chain(find_chain(name))
    _print(report, as_json)
    if report.errors:
        first = report.errors[0]
        more = f", and {len(report.errors) - 1} more" if len(report.errors) > 1 else ""
        raise ConfigurationError(f"{report.path}, line {first.line}: {first.text}{more}")


def _list(as_json: bool) -> None:
    from chpnet_stream.chain.document import read_document
    from chpnet_stream.chain.installed import about, installed_chains

    records = [
        {"name": name, "what it does": about(read_document(path).comment), "path": str(path)}
        for name, path in installed_chains().items()
    ]
    show_list(records, title="Installed chains", columns=("name", "what it does"), as_json=as_json)


def _print(report: Report, as_json: bool) -> None:
    steps = [{"line": s.line, "node": s.node, "behind it": s.gives} for s in report.steps]
    findings = [{"line": f.line, "level": f.level, "text": f.text} for f in report.findings]
    counts = {"errors": len(report.errors), "warnings": len(report.warnings)}
    if as_json:
        record = {"chain": str(report.path), **counts, "steps": steps, "findings": findings}
        show(record, title="", as_json=True)
        return
    if steps:
        show_list(steps, title=str(report.path))
    if findings:
        show_list(findings, title="Findings")
    show(counts, title="Check")
