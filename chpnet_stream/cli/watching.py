"""What the commands that serve scans share about being watched: page, metrics, summaries, log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chpnet_stream.cli.bundle import bundled

if TYPE_CHECKING:
    from chpnet_stream.dashboard.prometheus import ScanMetrics
    from chpnet_stream.dashboard.server import DashboardServer
    from chpnet_stream.dashboard.store import ScanStore
    from chpnet_stream.streaming.observer import Observers, ScanObserver

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Watching:
    """How the scans of a server are watched: the values of `watching_options`.

    Attributes:
        dashboard: Port of the live view; None for none.
        dashboard_host: Address that it listens on.
        dashboard_names: Host names that it goes by, beside those it knows.
        dashboard_memory: Most memory of its pictures, in MB.
        show_patient: Tell what headers say of the patient.
        summary: Folder of the scans' summaries; None for none.
        summary_keep: Summaries kept.
        log_json: Whether the log is JSON.
    """

    dashboard: int | None = None
    dashboard_host: str = "127.0.0.1"
    dashboard_names: tuple[str, ...] = ()
    dashboard_memory: int = 256
    show_patient: bool = False
    summary: Path | None = None
    summary_keep: int = 1000
    log_json: bool = False

    @contextmanager
    def observers(self, command: str) -> Iterator[Observers | None]:
        """Who watches: give it to the server. The live view ends with the context.

        Args:
            command: What runs, for the page.

        Raises:
            ConfigurationError: A port, folder or token that can't be used; packages that lack.
        """
        import logging

        from chpnet_stream.streaming.observer import Observers

        logger = logging.getLogger("chpnet_stream")
        watchers: list[ScanObserver] = []
        page: DashboardServer | None = None
        shown: list[ScanMetrics | ScanStore] = []
        if self.summary is not None:
            from chpnet_stream.dashboard.summaries import ScanSummaries

            watchers.append(
                ScanSummaries(self.summary, self.summary_keep, show_patient=self.show_patient)
            )
        if self.dashboard is not None:
            page, shown = self._dashboard(command)
            watchers += shown
        if not watchers:
            yield None
            return
        observers = Observers(watchers)
        for each in shown:
            each.observers = observers  # to tell what they had no time for
        if page is not None:
            page.start()
            url = f"{page.url}?token={page.token}" if page.token_made else page.url
            logger.info("live view at %s, metrics at %smetrics", url, page.url)
        try:
            yield observers
        finally:
            observers.close()
            if page is not None:
                page.close()

    def _dashboard(self, command: str) -> tuple[DashboardServer, list[ScanMetrics | ScanStore]]:
        """The server of the live view, and what observes for it."""
        import os

        from chpnet_stream import __version__
        from chpnet_stream.dashboard.guard import TOKEN_VARIABLE
        from chpnet_stream.errors import ConfigurationError

        try:
            import prometheus_client  # noqa: F401
            import starlette  # noqa: F401
            import uvicorn  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(
                f"--dashboard needs the package {error.name}, found none; pip install "
                "'chpnet-stream[serve]'"
            ) from error
        from chpnet_stream.dashboard.prometheus import ScanMetrics
        from chpnet_stream.dashboard.server import DashboardServer
        from chpnet_stream.dashboard.store import ScanStore

        store = ScanStore(self.dashboard_memory, show_patient=self.show_patient)
        metrics = ScanMetrics(store)
        page = DashboardServer(
            store,
            metrics,
            self.dashboard_host,
            self.dashboard or 0,
            token=os.environ.get(TOKEN_VARIABLE),
            names=self.dashboard_names,
            facts={"version": __version__, "command": command, "patient": self.show_patient},
        )
        return page, [metrics, store]


def watching_options(command: F) -> F:
    """Adds the options; the command gets them as one argument `watching` (a `Watching`)."""
    options = [
        click.option(
            "--dashboard",
            type=click.IntRange(0, 65535),
            metavar="PORT",
            help="Show running scans on a page, http://127.0.0.1:PORT/, and metrics for "
            "Prometheus below /metrics; 0 takes a free port.",
        ),
        click.option(
            "--dashboard-host",
            default="127.0.0.1",
            show_default=True,
            metavar="ADDRESS",
            help="Address of the page. Beyond this machine it asks for a token, which is told in "
            "the log, or is taken from CHPNET_DASHBOARD_TOKEN.",
        ),
        click.option(
            "--dashboard-name",
            "dashboard_names",
            multiple=True,
            metavar="NAME",
            help="A host name that the page is opened by, beside this machine's own.",
        ),
        click.option(
            "--dashboard-memory",
            type=click.IntRange(1, 65536),
            default=256,
            show_default=True,
            metavar="MB",
            help="Memory for the page's pictures; the oldest go first.",
        ),
        click.option(
            "--show-patient",
            is_flag=True,
            help="Show on the page, and write to summaries, what headers say of the patient.",
        ),
        click.option(
            "--summary",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Write a JSON file there for every scan that ends.",
        ),
        click.option(
            "--summary-keep",
            type=click.IntRange(1),
            default=1000,
            show_default=True,
            metavar="N",
            help="Summaries kept; the oldest go.",
        ),
        click.option("--log-json", is_flag=True, help="Log in JSON, one object a line."),
    ]
    return bundled(Watching, "watching", options)(command)
