"""The whole check of a chain."""

from __future__ import annotations

from pathlib import Path

from chpnet_stream.chain.document import read_document
from chpnet_stream.chain.flow import Flow
from chpnet_stream.chain.parsing import ChainParser
from chpnet_stream.chain.report import Report


def check_chain(path: Path) -> Report:
    """Check a chain as far as it can be without a Gadgetron.

    Args:
        path: The file.

    Returns:
        Its steps and what was found.

    Raises:
        ConfigurationError: The file can't be read as XML at all.
    """
    report = Report(path)
    chain = ChainParser(report).chain(read_document(path).root)
    if chain is not None:
        Flow(report).chain(chain)
    report.findings.sort(key=lambda finding: (finding.level, finding.line))
    return report
