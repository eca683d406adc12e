"""One scan over one connection: what the gadgets and the server do with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from chpnet_stream.errors import ModelError, PeerGoneError
from chpnet_stream.idle_threads import work_alone
from chpnet_stream.loading import load_or_explain
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.size_limits import size_limit
from chpnet_stream.streaming.current import CURRENT_SCAN
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.events import Outcome
from chpnet_stream.streaming.inbox import INBOX_BYTES
from chpnet_stream.streaming.observer import Observers
from chpnet_stream.streaming.pump import Handler, run_scan, tell
from chpnet_stream.streaming.watch import ScanWatch

if TYPE_CHECKING:
    from chpnet_stream.engines.engine import Engine
    from chpnet_stream.enhancement import Enhancer
    from chpnet_stream.metrics import SessionMetrics
    from chpnet_stream.session import Session

Kind = Literal["acquisitions", "buffers", "images"]
KINDS: tuple[str, ...] = get_args(Kind)

logger = logging.getLogger(__name__)


class Scan:
    """One scan.

    Attributes:
        inbox_bytes: Bound of what may wait to be worked on.
        place: Called with the scan; held while it is there. By default nobody has to wait.
        begun: The header has come.
        opened: When it was accepted, by the monotonic clock.

    Args:
        connection: Its connection, not greeted yet.
        kind: What comes in.
        engines: Networks that are loaded, and where to load others.
        defaults: Properties that hold where the configuration doesn't say otherwise.
        name: Who it is, for the log.
        patience: Seconds within which the header must have come; 0 for any time.
        ready: Called when libraries and model are loaded, or can't be; by any thread, and again
            where the scan fails.
        observers: Who is told of what happens.
        turn: Held while there is work to do; by default nobody has to wait.
    """

    def __init__(
        self,
        connection: Connection,
        kind: Kind,
        engines: EnginePool | None = None,
        defaults: Mapping[str, str] | None = None,
        name: str = "",
        patience: float = 0.0,
        ready: Callable[[], None] | None = None,
        observers: Observers | None = None,
        turn: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.connection = connection
        self.kind = kind
        self.engines = engines or EnginePool()
        self.defaults = dict(defaults or {})
        self.name = name or kind
        self.patience = patience
        self.ready = ready
        self.turn = turn
        self.place: Callable[[Scan], AbstractContextManager[object]] = nullcontext
        self.inbox_bytes = size_limit("waiting_bytes", INBOX_BYTES)
        self.watch = ScanWatch(self.name, kind, observers)
        self.begun = False
        self.opened = time.monotonic()

    def run(self) -> None:
        """Everything from the header to CLOSE; one line in the log, whatever happens.

        Raises:
            Exception: What went wrong, once the peer was told.
        """
        with self.place(self):
            self._run()

    def _run(self) -> None:
        token = CURRENT_SCAN.set(self.watch.live.scan_id)
        self.watch.open()
        try:
            options = self._begin()
            run_scan(
                self.connection,
                lambda: self._prepare(options),
                self.inbox_bytes,
                watch=self.watch,
            )
        except Exception as error:
            text, words = tell(error), self._done()
            self._loaded()
            self.connection.fail(text)
            outcome: Outcome = "peer gone" if isinstance(error, PeerGoneError) else "failed"
            fields = self._fields(outcome)
            logger.error("%s: failed after %s: %s", self.name, words, text, extra=fields)
            self.watch.end(outcome, words, text, type(error).__name__)
            connection = self.connection
            if not (outcome == "peer gone" or connection.closed_by_peer or connection.one_way):
                connection.drain()  # who was refused at the header may have sent half a scan
            raise
        else:
            words = self._done()
            logger.info("%s: done, %s", self.name, words, extra=self._fields("done"))
            self.watch.end("done", words)
        finally:
            CURRENT_SCAN.reset(token)

    def send_away(self, why: str) -> None:
        """End the connection if the scan has not begun; from any thread.

        Args:
            why: For the peer and the log.
        """
        if not self.begun:
            self.connection.send_away(f"no header came before the end: {why}")

    def _begin(self) -> ReconstructionOptions:
        """Options of the scan; what can't be done is refused before anything heavy is loaded."""
        self._greet()
        properties = {**self.defaults, **self.connection.properties}
        options = ReconstructionOptions.from_properties(properties)
        self.watch.start(self.connection.header, options)
        if self.kind != "images":
            self.connection.header.check()
        return options

    def _greet(self) -> None:
        with self.connection.patience(self.patience):
            self.connection.greet()
        self.begun = True

    def _prepare(self, options: ReconstructionOptions) -> Handler:
        try:
            return self._handler(options)
        finally:
            self._loaded()

    def _loaded(self) -> None:
        """Nothing more is loaded: told before the peer is told of a failure, and may go."""
        if self.ready is not None:
            self.ready()

    def _handler(self, options: ReconstructionOptions) -> Handler:
        """The handler of the scan; imports torch and loads the model."""
        self.watch.change(options)
        # Networks run on threads of their own, which have the cores.
        work_alone()
        handler: Any
        if self.kind == "images":
            from chpnet_stream.streaming.images import ImageHandler

            handler = ImageHandler(options, self._enhancer, self.watch)
            self.watch.live.metrics = handler.metrics
            return handler
        from chpnet_stream.streaming.acquisitions import AcquisitionHandler
        from chpnet_stream.streaming.buffers import BufferHandler

        session = self._session(options)
        self._tell_of(session.engine)
        self.watch.live.metrics = session.metrics
        kind = AcquisitionHandler if self.kind == "acquisitions" else BufferHandler
        return kind(session, self.watch)

    def _session(self, options: ReconstructionOptions) -> Session:
        """A session with the engine of the options, or without one where it can't be loaded."""
        from chpnet_stream.network.weights import find_model

        engine, missing = None, ""
        if options.method == "chpnet":
            find_model(options.model)  # an unknown name is an error; what is damaged is none
            engine, missing = load_or_explain(
                lambda: self.engines.get(options.model, options.engine, options.precision),
                options.on_error,
            )
        return self._session_with(options, engine, missing)

    def _session_with(
        self, options: ReconstructionOptions, engine: Engine | None, missing: str = ""
    ) -> Session:
        """A session, by a turn: others work while an engine is loaded, but not in its dry run."""
        from chpnet_stream.session import Session

        with self.turn():
            session = Session(self.connection.header, options, engine, missing, live=True)
        session.turn = self.turn
        return session

    def _tell_of(self, engine: Engine | None) -> None:
        """Warn where it is not the engine that was asked for."""
        from chpnet_stream.engines.stand_in import reason_of

        if engine is not None and reason_of(engine):
            logger.warning(
                "%s: the network runs by %s, which may be slower (%s); later scans have the engine "
                "that was asked for once it can be loaded",
                self.name,
                engine.name,
                reason_of(engine),
            )

    @property
    def metrics(self) -> SessionMetrics | None:
        """Counters and latencies; None before the model is there."""
        return self.watch.live.metrics

    def _enhancer(self, options: ReconstructionOptions) -> Enhancer:
        """The enhancer of the options' model, or of the one that is installed for the task.

        Raises:
            ModelError: There is none, or it can't be loaded; with on_error=error what that raises.
        """
        from chpnet_stream.enhancement import Enhancer

        name = model_for_images(options)
        engine, missing = load_or_explain(
            lambda: self.engines.get(name, options.engine, options.precision),
            options.on_error,
            "every image of the scan will be passed on as it came",
        )
        if engine is None:
            raise ModelError(missing)
        self._tell_of(engine)
        found = Enhancer(engine)
        found.turn = self.turn
        found.apart = True
        return found

    def _fields(self, outcome: Outcome) -> dict[str, Any]:
        """The same in numbers, for logs that machines read."""
        counted = {} if self.metrics is None else self.metrics.counted()
        return {"fields": {"event": "scan ended", "outcome": outcome, **counted}}

    def _done(self) -> str:
        """What was done so far, in words."""
        seconds = time.monotonic() - self.opened
        if self.metrics is None:
            return f"0 images in {seconds:.1f} s"
        latency = self.metrics.latency()
        words = [f"{self.metrics.images} images in {seconds:.1f} s"]
        if latency:
            words.append(f"latency p50 {latency['p50']:.0f} ms, max {latency['max']:.0f} ms")
        if self.metrics.fallbacks:
            kinds = ", ".join(f"{n} {kind}" for kind, n in dict(self.metrics.fallbacks).items())
            words.append(f"not by the network: {kinds}")
        if self.metrics.deadline_misses:
            words.append(f"{self.metrics.deadline_misses} sent after the deadline")
        if self.metrics.incomplete:
            words.append(f"{self.metrics.incomplete} incomplete")
        if self.metrics.marked:
            words.append(f"{self.metrics.marked} to check the data of (ChpnetDataMark)")
        return "; ".join(words)


def model_for_images(options: ReconstructionOptions) -> str:
    """The options' model, or where they name none the one that is installed for the task.

    Raises:
        ModelError: There is none, or it is for another task.
    """
    from chpnet_stream.network.weights import find_model, installed_models

    name = options.model
    card = find_model(name).card
    if card.student.task == "superres":
        return name
    installed = [find_model(m).card for m in installed_models()]
    fit = [c.name for c in installed if c.student.task == "superres"]
    default = ReconstructionOptions.model_fields["model"].default
    if name != default or not fit:
        raise ModelError(
            f"model {Path(name).stem} is for the task '{card.student.task}', expected one for "
            "'superres' to enhance images; name one by the property model (see `chpnet-stream "
            "models`)"
        )
    return fit[0]
