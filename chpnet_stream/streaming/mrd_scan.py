"""One scan of an MRD client: what it asks for and what comes decide what is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import ismrmrd

from chpnet_stream import __version__
from chpnet_stream.configurations import BYTE_ORDER_MARK, Configuration, Configurations
from chpnet_stream.errors import ChpnetError, ConfigurationError, EmptyScanError
from chpnet_stream.idle_threads import work_alone
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.wire.bucket import Bucket
from chpnet_stream.mrd.wire.connection import Connection, tell_text
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.mrd.wire.messages import Header, Text
from chpnet_stream.mrd.wire.recon_data import ReconData
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.noise_store import NoiseStore
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.observer import Observers
from chpnet_stream.streaming.pump import Handler
from chpnet_stream.streaming.scan import Kind, Scan

if TYPE_CHECKING:
    from chpnet_stream.session import Session
    from chpnet_stream.streaming.acquisitions import AcquisitionHandler

KINDS: tuple[tuple[type, Kind], ...] = (
    (ismrmrd.Acquisition, "acquisitions"),
    (ReconData, "buffers"),
    (Bucket, "buffers"),
    (ismrmrd.Image, "images"),
    (ImageArray, "images"),
)
NOISE = "noise"
"""The type of a measurement dependency that names a noise measurement, in lower case."""

logger = logging.getLogger(__name__)

Turn = Callable[[], AbstractContextManager[object]]


def reply(query: str) -> str:
    """The answer to a query such as `gadgetron::version`."""
    if query.endswith("::version"):
        return f"chpnet-stream {__version__}"
    return f"unknown query '{query}', there is: gadgetron::version"


def in_full(dependency: str, own: str) -> str:
    """The measurementID of a dependency, of which a header may have the last part alone.

    Measurements of Siemens scanners are called `patient_study_number`, and some converters
    write the number of the noise alone (Gadgetron's NoiseAdjustGadget completes it, too).

    Args:
        dependency: As the header has it.
        own: measurementID of the scan itself.
    """
    before, mark, _ = own.rpartition("_")
    return before + mark + dependency if mark and "_" not in dependency else dependency


def is_json(text: str) -> bool:
    """Whether a TEXT may be parameters."""
    return text.lstrip(BYTE_ORDER_MARK).lstrip().startswith("{")


class MrdScan(Scan):
    """One scan of an MRD client.

    Acquisitions, buckets and recon data are reconstructed, images are enhanced; one scan may have
    both. What was asked for is told in the meta of the images where it is not what its name says.

    Args:
        connection: Its connection, not greeted yet.
        engines: Networks that are loaded.
        defaults: Properties that hold where the client doesn't say otherwise.
        name: Who it is, for the log.
        patience: Seconds within which the header must have come; 0 for any time.
        configurations: What clients may ask for.
        noise: Noise of earlier measurements.
        turn: Held while there is work to do; by default nobody has to wait.
        in_pipe: Stand in a pipe: begin with the header, and hand on what is not for us.
        observers: Who is told of what happens.
    """

    def __init__(
        self,
        connection: Connection,
        engines: EnginePool | None = None,
        defaults: Mapping[str, str] | None = None,
        name: str = "",
        patience: float = 0.0,
        *,
        configurations: Configurations | None = None,
        noise: NoiseStore | None = None,
        turn: Turn = nullcontext,
        in_pipe: bool = False,
        observers: Observers | None = None,
    ) -> None:
        super().__init__(
            connection,
            "acquisitions",
            engines,
            defaults,
            name,
            patience,
            observers=observers,
            turn=turn,
        )
        connection.keep_text = True
        self.configurations = configurations or Configurations()
        self.noise = NoiseStore() if noise is None else noise
        self.in_pipe = in_pipe
        self.asked = Configuration()
        self.fault: ConfigurationError | None = None
        self._spare_noise: NoiseScan | None = None
        self._early: Session | None = None

    def preset(self, asked: Configuration, noise: NoiseScan | None = None) -> None:
        """What holds where the client asks for nothing, and has no noise.

        Args:
            asked: The configuration.
            noise: Noise for a scan that refers to none that is known.
        """
        self.asked = asked
        self._spare_noise = noise

    def run(self) -> None:
        """See `Scan.run`; a client that only asks for the version gets its answer."""
        with self.connection.patience(self.patience):
            comes = self.connection.answer(reply)
        if comes:
            super().run()
        else:
            self.connection.close()
            logger.debug("%s: asked for the version", self.name)  # health checks, twice a minute

    def ask(self, text: str) -> ReconstructionOptions:
        """Options behind the JSON parameters of a TEXT message.

        Raises:
            ConfigurationError: They can't be used.
        """
        self.asked, self.fault = self.configurations.of_json(text, self.asked), None
        return self._options()

    def handler_of(self, kind: Kind, options: ReconstructionOptions) -> Handler:
        """What works on items of a kind.

        Raises:
            UnsupportedScanError: The scan can't be reconstructed.
            ChpnetError: Model or engine can't be used.
        """
        self.kind = kind
        if kind == "images":
            self.drop_early()
        else:
            self.connection.header.check()
        return super()._handler(options)

    def drop_early(self) -> None:
        """Let go of a session that nothing came for, and of its threads."""
        if self._early is not None:
            self._early.close()
            self._early = None

    def known_noise(self) -> tuple[str, NoiseScan | None]:
        """Noise that the header refers to, and where it is from; None where it is not known."""
        header = self.connection.header
        names = [m for kind, m in header.dependencies if kind.lower() == NOISE]
        own = header.measurement.get("measurementID", "")
        for measurement in names:
            found = self.noise.get(measurement) or self.noise.get(in_full(measurement, own))
            if found is not None:
                return f"measurement {measurement}", found
        if self._spare_noise is not None:
            return "the covariance file", self._spare_noise
        if names:
            logger.warning(
                "%s: the noise measurement that its header names is not known here; the noise "
                "level comes from this scan",
                self.name,
            )  # the images name it: numbers of measurements may be those of patients
        return (f"measurement {names[0]}" if names else ""), None

    def _begin(self) -> ReconstructionOptions:
        self._greet()
        connection = self.connection
        try:
            if connection.config is not None:
                self.asked = self.configurations.of_message(connection.config)
            elif connection.filename is not None:
                self.asked = self.configurations.named(connection.filename)
        except ConfigurationError as error:
            # JSON parameters may still name a configuration that there is.
            self.asked = Configuration(connection.filename or "")
            self.fault = error
        options = self._options()
        for text in connection.early_texts:
            if is_json(text):
                options = self.ask(text)
        if connection.header_xml is not None:
            if self.in_pipe:
                connection.send(Header(connection.header_xml))
            self._tell_start(options)
        return options

    def _tell_start(self, options: ReconstructionOptions) -> None:
        try:
            self.watch.start(self.connection.header, options)
        except ChpnetError as error:  # images may do without; acquisitions will meet it again
            logger.debug("%s: no header to tell of: %s", self.name, error)

    def _options(self) -> ReconstructionOptions:
        if self.asked.note:
            name = self.asked.name or "a chain"
            logger.warning("%s asked for %s: %s", self.name, name, self.asked.note)
        return ReconstructionOptions.from_properties({**self.defaults, **self.asked.properties})

    def _handler(self, options: ReconstructionOptions) -> Handler:
        work_alone()  # loads PyTorch: the first item may come meanwhile
        self._warm(options)
        return _AnyHandler(self, options)

    def _warm(self, options: ReconstructionOptions) -> None:
        """Make the session of raw data, with its model and a dry run, while the first lines come.

        What is warm of it may belong to its thread: it is the one that such data get.
        """
        if self.fault is not None or options.method != "chpnet" or self.asked.takes != "anything":
            return
        try:
            header = self.connection.header
            if header.problems() or self._has_images_only():
                return
            engine = self.engines.get(options.model, options.engine, options.precision)
            if not self._has_images_only():
                self._early = self._session_with(options, engine)
        except Exception as error:  # noqa: BLE001 - whoever needs it will say so
            logger.debug("%s: not warmed up: %s", self.name, error)

    def _has_images_only(self) -> bool:
        """Whether images came so far, and no line: there may never be one."""
        arrived = self.watch.live.arrived
        return arrived["images"] + arrived["image arrays"] > 0 and not arrived["acquisitions"]

    def _session(self, options: ReconstructionOptions) -> Session:
        early = self._early
        if early is not None and early.options == options:
            self._early = None
            return early
        self.drop_early()
        return super()._session(options)


class _AnyHandler:
    """Gives every item to the handler of its kind, which is made when the first one comes.

    Args:
        scan: The scan.
        options: What is known of its options so far.
    """

    def __init__(self, scan: MrdScan, options: ReconstructionOptions) -> None:
        self.scan = scan
        self.options = options
        self._handlers: dict[Kind, Handler] = {}
        self._session: Session | None = None
        self._lone_noise: NoiseScan | None = None
        self._new_noise = False
        self._notes: dict[str, str] = {}

    def take(self, item: Any, received_at: float) -> Iterator[Any]:
        """See `pump.Handler.take`."""
        if isinstance(item, Text):
            self._take_text(item.text)
            return
        kind = next((kind for of, kind in KINDS if isinstance(item, of)), None)
        if kind is None:
            if self.scan.in_pipe:
                yield item
            return
        if kind == "acquisitions" and self._take_lone_noise(item):
            return
        handler = self._handlers.get(kind) or self._begin(kind, item)
        if kind == "acquisitions":
            self._watch_noise(item)
        yield from map(self._noted, handler.take(item, received_at))

    def finish(self) -> Iterator[Any]:
        """See `pump.Handler.finish`.

        Raises:
            EmptyScanError: Nothing came that could become an image.
        """
        if self.scan.fault is not None:
            raise self.scan.fault
        noise = self._lone_noise or self._only_noise()
        if noise is not None:
            kept = self._keep_noise(noise)
            logger.log(
                logging.INFO if kept else logging.WARNING,
                "%s: only noise (%d samples of %d coils), %s",
                self.scan.name,
                noise.samples,
                noise.coils,
                "kept for measurements that refer to it"
                if kept
                else "not kept: its header has no measurementID that others could refer to",
            )
            without = self._handlers.pop("acquisitions", None)
            if without is not None:
                without.close()
        elif not self._handlers:
            raise EmptyScanError(
                "found neither acquisitions nor images between the header and CLOSE, expected a "
                "scan; check the client"
            )
        for handler in self._handlers.values():
            yield from map(self._noted, handler.finish())

    def close(self) -> None:
        """See `pump.Handler.close`."""
        self.scan.drop_early()
        for handler in self._handlers.values():
            handler.close()

    def _take_text(self, text: str) -> None:
        """JSON parameters, if nothing else came before; other words are for the log."""
        if is_json(text) and not self._handlers:
            self.options = self.scan.ask(text)
        else:
            tell_text(logger, self.scan.name, text)

    def _begin(self, kind: Kind, item: Any) -> Handler:
        """The handler of the first item of a kind.

        Raises:
            ConfigurationError: What was asked for is unknown, or takes something else.
        """
        scan, asked = self.scan, self.scan.asked
        if scan.fault is not None:
            raise scan.fault
        if asked.takes != "anything" and kind != asked.takes:
            raise ConfigurationError(
                f"configuration '{asked.name}' takes {asked.takes}, found {kind}; choose another "
                "one, or send what it takes"
            )
        made = self._handlers[kind] = scan.handler_of(kind, self.options)
        if asked.note:
            self._notes["ChpnetConfiguration"] = f"{asked.name or 'chain'}: {asked.note}"
        if kind == "acquisitions":
            self._session = cast("AcquisitionHandler", made).session
            self._adopt_noise(self._session, item)
        return made

    def _take_lone_noise(self, item: Any) -> bool:
        """Gather noise of a measurement that has nothing else, whatever its header is like."""
        if self._session is not None or not int(item.flags) & flags.NOISE:
            return False
        header = self.scan.connection.header
        if self.scan.asked.takes != "noise" and not header.problems():
            return False
        if self._lone_noise is None:
            self._lone_noise = NoiseScan(header.noise_bandwidth)
        self._lone_noise.add(item)
        self._new_noise = True
        return True

    def _only_noise(self) -> NoiseScan | None:
        if self._session is None:
            return None
        counts = self._session.assembler.counts
        return self._session.noise if 0 < counts["acquisitions"] == counts["noise"] else None

    def _adopt_noise(self, session: Session, item: Any) -> None:
        """Take over the noise that the header refers to, if it fits."""
        scan = self.scan
        origin, known = scan.known_noise()
        if known is not None and known.coils != int(item.active_channels):
            logger.warning(
                "%s: the noise that its header names has %d coils, this scan %d; it is not used",
                scan.name,
                known.coils,
                int(item.active_channels),
            )
            self._notes["ChpnetNoiseDependency"] = f"{origin} has other coils"
        elif known is not None:
            session.noise.adopt(known, origin)
            logger.info("%s: noise taken from an earlier measurement", scan.name)
        elif origin:
            self._notes["ChpnetNoiseDependency"] = f"{origin} is not known here"

    def _watch_noise(self, item: Any) -> None:
        """Keep the scan's own noise once it is whole: scans at the same time may refer to it."""
        if int(item.flags) & flags.NOISE:
            self._new_noise = True
        elif self._new_noise and self._session is not None:
            self._keep_noise(self._session.noise)

    def _keep_noise(self, noise: NoiseScan) -> bool:
        """Keep it under the scan's measurementID, if there is one; returns whether there is."""
        measurement = self.scan.connection.header.measurement.get("measurementID", "")
        if self._new_noise and measurement:
            self.scan.noise.put(measurement, noise)
        self._new_noise = False
        return bool(measurement)

    def _noted(self, made: Any) -> Any:
        if self._notes and isinstance(made, ismrmrd.Image):
            made.meta.update(self._notes)
        return made
