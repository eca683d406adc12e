"""All findings, in order, as they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from chpnet_stream.doctor.finding import Finding
from chpnet_stream.doctor.ports import PORTS
from chpnet_stream.network.weights import DEFAULT_MODEL


@dataclass(frozen=True)
class Examination:
    """What to look at.

    Attributes:
        model: Model of the dry runs.
        matrix: Matrix of the dry runs.
        engines: Whether to run engines at all.
        seconds: An engine that takes longer is given up.
        ports: Ports to look at.
    """

    model: str = DEFAULT_MODEL
    matrix: int = 256
    engines: bool = True
    seconds: float = 120.0
    ports: Sequence[int] = tuple(PORTS)

    def findings(self, progress: Callable[[str], None] = lambda what: None) -> Iterator[Finding]:
        """Everything, one after the other; a look that fails itself is a finding, too.

        Args:
            progress: Told what is looked at now.
        """
        from chpnet_stream.doctor.engines import engine_findings
        from chpnet_stream.doctor.folders import folder_findings
        from chpnet_stream.doctor.gadgetron import gadgetron_findings, tool_findings
        from chpnet_stream.doctor.machine import machine_findings
        from chpnet_stream.doctor.models import model_findings
        from chpnet_stream.doctor.packages import package_findings
        from chpnet_stream.doctor.ports import port_findings

        looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
            ("python", package_findings),
            ("machine", machine_findings),
            ("models", model_findings),
            ("folders", folder_findings),
            ("ports", lambda: port_findings(self.ports)),
            ("gadgetron", gadgetron_findings),
            ("tools", tool_findings),
        ]
        if self.engines:
            engines = (self.model, self.matrix, self.seconds)
            looks.append(("engines", lambda: engine_findings(*engines)))
        for section, look in looks:
            progress(section)
            try:
                yield from look()
            except Exception as error:  # noqa: BLE001 - the other looks are of use all the same
                yield Finding(
                    section,
                    "this look",
                    "warn",
                    f"failed itself: {type(error).__name__}: {error}",
                    "tell us of it, with the output of --json",
                )
