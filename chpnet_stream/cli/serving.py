"""What the commands that serve scans share: options, log, warm-up, signals, and the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chpnet_stream.cli.bundle import bundled
from chpnet_stream.schema import SETTINGS

if TYPE_CHECKING:
    from chpnet_stream.engines.engine import Engine
    from chpnet_stream.options import ReconstructionOptions
    from chpnet_stream.server import ScanServer

F = TypeVar("F", bound=Callable[..., Any])

WARM_MATRIX = 256


@dataclass(frozen=True)
class Serving:
    """How a server serves: the values of `serving_options`.

    Attributes:
        port: Port to listen on.
        host: Address to listen on.
        model: Model of peers that name none; None for the usual one.
        engine: Engine of such peers.
        properties: Further properties of such peers, NAME=VALUE.
        workers: Slices worked on at a time.
        connections: Scans open at a time.
        patience: Seconds within which a header must come.
        idle: Seconds that a scan may pause.
        threads: CPU threads; None for all cores.
    """

    port: int
    host: str = "127.0.0.1"
    model: str | None = None
    engine: str | None = None
    properties: tuple[str, ...] = ()
    workers: int = 2
    connections: int = 32
    patience: float = 60.0
    idle: float = 900.0
    threads: int | None = None

    def options(self) -> ReconstructionOptions:
        """The options that the defaults make; faults are told before anything is loaded.

        Raises:
            ConfigurationError: As said.
        """
        from chpnet_stream.options import ReconstructionOptions

        return ReconstructionOptions.from_properties(self.defaults())

    def defaults(self) -> dict[str, str]:
        """Properties that hold where a peer doesn't say otherwise."""
        return default_properties(self.properties, self.model, self.engine)

    def settings(self) -> dict[str, Any]:
        """What every server takes."""
        return {
            "workers": self.workers,
            "connections": self.connections,
            "defaults": self.defaults(),
            "patience": self.patience,
            "idle": self.idle,
        }


def serving_options(port: int, peers: str) -> Callable[[F], F]:
    """The options that every server has; the command gets them as one argument `serving`.

    Args:
        port: Port to listen on by default.
        peers: Who may leave the model to the server, for the help.
    """
    options = [
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="Port to listen on; 0 takes a free one.",
        ),
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address to listen on. Anybody who reaches it can send scans.",
        ),
        click.option("--model", metavar="NAME|FILE", help=f"Model of {peers} that name none."),
        click.option(
            "--engine",
            type=click.Choice(SETTINGS["engine"].choices),
            help=f"Engine of {peers} that name none.",
        ),
        click.option(
            "--property",
            "properties",
            multiple=True,
            metavar="NAME=VALUE",
            help=f"Any property, for {peers} that don't set it.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, 64),
            default=2,
            show_default=True,
            help="Slices worked on at a time; scans take turns.",
        ),
        click.option(
            "--connections",
            type=click.IntRange(1, 1024),
            default=32,
            show_default=True,
            help="Scans open at a time; further peers wait.",
        ),
        click.option(
            "--patience",
            type=click.FloatRange(0),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="A peer that has sent no header by then is sent away. 0: never.",
        ),
        click.option(
            "--idle",
            type=click.FloatRange(0),
            default=900.0,
            show_default=True,
            metavar="SECONDS",
            help="A scan may pause, or leave its images unread, for so long. 0: for ever.",
        ),
        click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all cores]"),
    ]

    return bundled(Serving, "serving", options)


def pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """The values of an option that is NAME=VALUE, by name.

    Raises:
        ConfigurationError: One has no equals sign, or no name.
    """
    from chpnet_stream.errors import ConfigurationError

    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigurationError(f"{option} {text}: expected NAME=VALUE")
        found[name.strip()] = value
    return found


def default_properties(
    properties: Sequence[str], model: str | None, engine: str | None
) -> dict[str, str]:
    """Properties from the options of a server."""
    found = pairs("--property", properties)
    return found | {n: v for n, v in (("model", model), ("engine", engine)) if v is not None}


def start_server_log(*, as_json: bool = False) -> None:
    """A server's log has times and tracebacks, unlike the one line of other commands.

    Args:
        as_json: Write JSON, one object a line.
    """
    import logging
    import sys

    from chpnet_stream.json_log import JsonFormatter

    log = logging.StreamHandler(sys.stderr)
    words = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    log.setFormatter(JsonFormatter() if as_json else words)
    logger = logging.getLogger("chpnet_stream")
    logger.handlers = [log, *(h for h in logger.handlers if isinstance(h, logging.FileHandler))]
    logger.setLevel(min(logger.level or logging.INFO, logging.INFO))


def run_server(server: ScanServer, what: str, serving: Serving, *, images: bool = False) -> None:
    """Load the model, serve until a signal comes, and say so.

    SIGTERM, Ctrl-C or the end of the terminal (SIGHUP) lets the running scans finish; a second
    SIGTERM or Ctrl-C ends at once.

    Args:
        server: It listens already; peers that come early wait.
        what: What it serves, for the log.
        serving: How.
        images: The model that is loaded now is that of images, not that of raw data.
    """
    import logging
    import signal
    from types import FrameType

    from chpnet_stream.memory import keep_memory_flat

    logger = logging.getLogger("chpnet_stream")
    keep_memory_flat()

    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # as nohup has it

    def stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _second_signal())
        if hangs_up:  # both the system and the shell may say it
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hangs_up else [])):
        signal.signal(number, stop)
    signal.set_wakeup_fd(server.waker, warn_on_full_buffer=False)
    _warm(server, serving, images=images)
    logger.info(
        "listening on %s port %d for %s, up to %d slices at a time",
        *server.address,
        what,
        server.turns.most,
    )
    try:
        server.serve()
    finally:
        signal.set_wakeup_fd(-1)
    scans = server.scans - server.questions
    logger.info("stopped after %d scans, %d of them failed", scans, server.failed)
    if server.engines.is_loading():
        logger.info("waiting for an engine that is being loaded; a second signal ends at once")


def _second_signal() -> Any:
    """What ends the process at once.

    The kernel does so by itself, but not to the first process of a container.
    """
    import os
    import signal

    if os.getpid() != 1:
        return signal.SIG_DFL
    return lambda number, frame: os._exit(128 + number)


def _warm(server: ScanServer, serving: Serving, *, images: bool) -> None:
    """Load torch and the model, and run it once.

    Raises:
        ChpnetError: There is no such model; with on_error=error also what else goes wrong.
    """
    import logging
    from functools import partial

    import torch

    from chpnet_stream.errors import ModelError
    from chpnet_stream.loading import load_or_explain
    from chpnet_stream.network.weights import find_model
    from chpnet_stream.passing_thread import PassingThread
    from chpnet_stream.session import warm_up
    from chpnet_stream.streaming.scan import model_for_images

    if serving.threads is not None:
        torch.set_num_threads(serving.threads)
    options = serving.options()
    if not images and options.method != "chpnet":
        return
    find_model(options.model)  # an unknown name is an error; what is damaged is none
    name, kind = options.model, "a conventional one"
    if images:
        kind = "passed on as it came"
        try:
            name = model_for_images(options)
        except ModelError as error:
            if options.on_error == "error":
                raise
            logging.getLogger("chpnet_stream").warning("every image will be %s: %s", kind, error)
            return
    engine, _ = load_or_explain(
        lambda: server.engines.get(name, options.engine, options.precision),
        options.on_error,
        f"until a scan can load it, every image will be {kind}",
    )
    if engine is None:
        return
    # The main thread's loops would keep their threads as long as the server lives.
    beside = PassingThread("warm-up")
    if images:
        beside.submit(partial(_enhance_something, engine)).result()
    elif engine.card.student.task == "kspace":
        beside.submit(partial(warm_up, engine, WARM_MATRIX, WARM_MATRIX)).result()


def _enhance_something(engine: Engine) -> None:
    """A dry run: the first image would take some seconds longer."""
    import numpy as np

    from chpnet_stream.enhancement import Enhancer

    bump = np.hanning(WARM_MATRIX // 2).astype(np.float32)
    Enhancer(engine)(np.outer(bump, bump))
