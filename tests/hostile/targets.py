"""What is attacked: every place where bytes of somebody else come in.

A target takes bytes and returns how it went, in a word. It may raise `ChpnetError`, which is how
bad input is refused; anything else is a fault.
"""

import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chpnet_stream.errors import ChpnetError
from tests.hostile.mutation import BYTES, XML, Change

CHECKOUT = Path(__file__).resolve().parents[2]
UNEXPECTED = "chpnet-stream: unexpected "
"""How `streaming.pump.tell` begins with an exception that is no error of ours."""
RSS = (
    b'<?xml version="1.0"?>\n<configuration>\n\t<property name="method" value="rss" />\n'
    b"</configuration>\n"
)


@dataclass(frozen=True)
class Target:
    """Something that takes bytes from outside.

    Attributes:
        name: For the table.
        what: What it is, in words.
        take: Gives the bytes to it.
        seeds: Good inputs.
        changes: What is done to them.
        weight: Its share of the inputs.
    """

    name: str
    what: str
    take: Callable[[bytes], str]
    seeds: Callable[[], Sequence[bytes]]
    changes: tuple[Change, ...]
    weight: int


def recorded() -> Path | None:
    """Recorded bytes of a real Gadgetron and its client, where they are kept."""
    shared = Path(os.environ.get("CHPNET_SHARED_DATA", CHECKOUT.parent / "shared" / "data"))
    return shared / "wire" if (shared / "wire").is_dir() else None


@cache
def small_conversations() -> tuple[bytes, ...]:
    """Whole scans as a gadget gets them: plain, with averages and waveforms, and as buckets."""
    from chpnet_stream.mrd.files import ScanFile
    from chpnet_stream.mrd.wire.messages import Close
    from chpnet_stream.simulation.scan import simulate_scan
    from tests.gadgets.accumulate import buckets
    from tests.gadgets.peers import conversation, greeting, raw
    from tests.helpers import small_options

    made = []
    with tempfile.TemporaryDirectory() as folder:
        kinds = ({}, {"averages": 2, "acceleration": 1}, {"waveforms": True})
        for number, changes in enumerate(kinds):
            path = Path(folder) / f"{number}.h5"
            options = {"matrix": (16, 16), "slices": 2, "coils": 2, "calibration_lines": 8}
            simulate_scan(path, small_options(**options | changes))
            made.append(conversation(path, RSS))
        with ScanFile(path) as scan:
            lines = list(scan.acquisitions())
            made.append(greeting(scan.header.xml, RSS) + raw(*buckets(lines), Close()))
    return tuple(made)


def plain_scans() -> Sequence[bytes]:
    """The ones of acquisitions."""
    return small_conversations()[:-1]


def bucket_scans() -> Sequence[bytes]:
    """The one of buckets."""
    return small_conversations()[-1:]


@cache
def streams() -> tuple[bytes, ...]:
    """The same, and recordings of up to 400 kB where there are some."""
    folder = recorded()
    files = sorted(folder.glob("*.bin")) if folder else []
    return small_conversations() + tuple(
        f.read_bytes() for f in files if f.stat().st_size < 400_000
    )


def recon_scans() -> Sequence[bytes]:
    """One of recon data, as Gadgetron gathers them."""
    from chpnet_stream.mrd.header import ScanHeader
    from chpnet_stream.mrd.wire.messages import Close
    from tests.gadgets.accumulate import buckets, buffers
    from tests.gadgets.peers import greeting, messages_in, raw

    messages = messages_in(small_conversations()[0])
    header = next(m.raw for m in messages if type(m).__name__ == "Header")
    lines = [m for m in messages if type(m).__name__ == "Acquisition"]
    encoding = ScanHeader.from_xml(header).encodings[0]
    recon = [data for bucket in buckets(lines) for data in buffers(bucket, encoding)]
    return [greeting(header, RSS) + raw(*recon, Close())]


def image_scans() -> Sequence[bytes]:
    """Images to be made finer, of three types."""
    import ismrmrd
    import numpy as np

    from chpnet_stream.mrd.wire.messages import Close
    from tests.gadgets.peers import greeting, raw
    from tests.scan.building import header_xml

    images = []
    for kind in ("f4", "u2", "c8"):
        pixels = np.outer(np.arange(8), np.arange(6)).astype(kind)
        images.append(ismrmrd.Image.from_array(pixels, transpose=False))
        images[-1].meta = ismrmrd.Meta({"ImageComments": "a"})
    return [greeting(header_xml().encode()) + raw(*images, Close())]


def take_mrd2(data: bytes) -> str:
    """An MRD v2 stream, read to its end."""
    from chpnet_stream.mrd.v2.reader import Mrd2Reader
    from chpnet_stream.mrd.wire.byte_stream import BytesStream

    reader = Mrd2Reader(BytesStream(data))
    while reader.read() is not None:
        pass
    return "read"


@cache
def mrd2_streams() -> tuple[bytes, ...]:
    """Scans as MRD v2."""
    from chpnet_stream.mrd.v2.writer import Mrd2Writer
    from chpnet_stream.mrd.wire.byte_stream import BytesStream
    from tests.gadgets.peers import messages_in

    made = []
    for data in plain_scans():
        stream = BytesStream()
        writer = Mrd2Writer(stream)
        for message in messages_in(data):
            if type(message).__name__ != "Config":
                writer.write(message)
        made.append(bytes(stream.written))
    return tuple(made)


def take_parameters(data: bytes) -> str:
    """What an MRD client asks for: a name, JSON, or a chain."""
    from chpnet_stream.configurations import Configurations
    from chpnet_stream.options import ReconstructionOptions

    asked = Configurations().of_message(data)
    ReconstructionOptions.from_properties(dict(asked.properties))
    return "read"


def parameters() -> Sequence[bytes]:
    """One of each."""
    from chpnet_stream.schema import SETTINGS

    values = {s.name: s.written for s in SETTINGS.values()}
    return [
        b"Generic_Cartesian_Grappa.xml",
        json.dumps({"parameters": {"config": "cg-sense", **values}}).encode(),
        *chains(),
    ]


def take_messages(data: bytes) -> str:
    """Read messages to the end."""
    from chpnet_stream.mrd.wire.byte_stream import BytesStream
    from chpnet_stream.mrd.wire.reader import MessageReader

    reader = MessageReader(BytesStream(data))
    while reader.read() is not None:
        pass
    return "read"


def scan_of(kind: str) -> Callable[[bytes], str]:
    """A whole scan through the door of a gadget; what the peer reads is judged too."""

    def take(data: bytes) -> str:
        from chpnet_stream.mrd.wire.byte_stream import BytesStream
        from chpnet_stream.mrd.wire.connection import Connection
        from chpnet_stream.streaming.scan import Scan

        stream = BytesStream(data)
        failed: ChpnetError | None = None
        defaults = {"method": "rss"}
        try:
            Scan(Connection(stream), kind, engines(), defaults).run()  # type: ignore[arg-type]
        except ChpnetError as error:
            failed = error
        _judge_answer(bytes(stream.written), failed)
        if failed is not None:
            raise failed
        return "reconstructed"

    return take


@cache
def engines() -> Any:
    """Networks, loaded once."""
    from chpnet_stream.streaming.engine_pool import EnginePool

    return EnginePool()


def _judge_answer(written: bytes, failed: ChpnetError | None) -> None:
    """The peer always learns the truth: whole messages, one CLOSE at the end, ERROR on failure."""
    from chpnet_stream.mrd.wire.messages import Close, ErrorText
    from tests.gadgets.peers import messages_in

    answer = messages_in(written)
    if not answer or not isinstance(answer[-1], Close):
        raise AssertionError("the peer was not told CLOSE")
    if sum(isinstance(m, Close) for m in answer) > 1:
        raise AssertionError("the peer was told CLOSE twice")
    told = [m.text for m in answer if isinstance(m, ErrorText)]
    if (failed is not None) != bool(told):
        raise AssertionError(f"the scan ended with {failed!r}, the peer was told {told}")
    for text in told:
        ours = text.startswith("chpnet-stream: ") and not text.startswith(UNEXPECTED)
        if not ours or "\n" in text:
            raise AssertionError(f"the peer was told {text!r}, expected an error of ours, one line")


def take_header(data: bytes) -> str:
    """An XML header, judged as a scan."""
    from chpnet_stream.mrd.header import ScanHeader
    from chpnet_stream.scan.slices import SliceAssembler

    header = ScanHeader.from_xml(data)
    SliceAssembler(header)
    return "read"


def headers() -> Sequence[bytes]:
    """XML headers."""
    from tests.gadgets.peers import messages_in
    from tests.scan.building import header_xml

    made = [header_xml(encodings=2, mode="embedded", acceleration=(2, 1)).encode()]
    for data in small_conversations():
        made += [m.raw for m in messages_in(data) if type(m).__name__ == "Header"]
    return made


def take_configuration(data: bytes) -> str:
    """The configuration that a peer sends."""
    from chpnet_stream.mrd.wire.configuration import properties
    from chpnet_stream.options import ReconstructionOptions

    ReconstructionOptions.from_properties(properties(data))
    return "read"


def configurations() -> Sequence[bytes]:
    """Configurations with every property."""
    from chpnet_stream.schema import SETTINGS

    lines = "".join(
        f'\t<property name="{s.name}" value="{s.written}" />\n' for s in SETTINGS.values()
    )
    elements = "".join(
        f"<property><name>{s.name}</name><value>{s.written}</value></property>"
        for s in SETTINGS.values()
    )
    return [
        RSS,
        f'<?xml version="1.0"?>\n<configuration>\n{lines}</configuration>\n'.encode(),
        f"<configuration>{elements}</configuration>".encode(),
    ]


def take_meta(data: bytes) -> str:
    """The meta of an image."""
    from chpnet_stream.mrd.wire.image import parse_meta

    parse_meta(data)
    return "read"


def metas() -> Sequence[bytes]:
    """Meta of images."""
    import ismrmrd

    values = {"WindowCenter": "300", "ImageRowDir": ["1.0", "0.0", "0.0"], "SeriesDescription": "ä"}
    return [str(ismrmrd.Meta(values).serialize()).encode()]


def take_chain(data: bytes) -> str:
    """A Gadgetron chain, checked."""
    from chpnet_stream.chain.check import check_chain

    return f"{'refused' if check_chain(_file(data, 'chain.xml')).errors else 'read'}"


def chains() -> Sequence[bytes]:
    """The chains that come with the package."""
    return [p.read_bytes() for p in sorted((CHECKOUT / "configs" / "gadgetron").glob("*.xml"))]


def take_card(data: bytes) -> str:
    """A model card."""
    from chpnet_stream.network.weights import find_model

    find_model(str(_file(data, "chpnet-rt.json")))
    return "read"


def cards() -> Sequence[bytes]:
    """The card of the shipped model, as it is and in one line."""
    path = CHECKOUT / "chpnet_stream" / "models" / "chpnet-rt.json"
    return [path.read_bytes(), json.dumps(json.loads(path.read_bytes())).encode()]


def take_recipe(data: bytes) -> str:
    """A training recipe."""
    from chpnet_training.recipe import load_recipe

    load_recipe(_file(data, "recipe.yaml"))
    return "read"


def recipes() -> Sequence[bytes]:
    """The recipes that come with the package."""
    names = ("quick", "chpnet-rt", "pareto")
    return [(CHECKOUT / "configs" / "training" / f"{n}.yaml").read_bytes() for n in names]


def take_file(data: bytes) -> str:
    """An ISMRMRD file, read to its end."""
    from chpnet_stream.mrd.files import ScanFile

    with ScanFile(_file(data, "scan.h5")) as scan:
        for _ in scan.items():
            pass
    return "read"


@cache
def files() -> tuple[bytes, ...]:
    """ISMRMRD files."""
    from chpnet_stream.simulation.scan import simulate_scan
    from tests.helpers import small_options

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        simulate_scan(path, small_options(matrix=(16, 16), slices=1, coils=2, calibration_lines=8))
        return (path.read_bytes(),)


def take_noise(data: bytes) -> str:
    """A noise covariance of MRD v2."""
    from chpnet_stream.scan.noise_file import read_noise

    read_noise(_file(data, "noise.bin"))
    return "read"


@cache
def noises() -> tuple[bytes, ...]:
    """Noise covariances of 2 and of 16 coils."""
    import mrd
    import numpy as np

    made = []
    for coils in (2, 16):
        file = io.BytesIO()
        with mrd.BinaryMrdNoiseCovarianceWriter(file) as writer:
            writer.write_noise_covariance(
                mrd.NoiseCovariance(
                    coil_labels=[
                        mrd.CoilLabelType(coil_number=n, coil_name=f"coil {n}")
                        for n in range(coils)
                    ],
                    receiver_noise_bandwidth=0.8,
                    noise_dwell_time_us=5.0,
                    sample_count=512,
                    matrix=np.eye(coils, dtype=np.complex64),
                )
            )
        made.append(file.getvalue())
    return tuple(made)


def _file(data: bytes, name: str) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="chpnet-hostile-"))


TARGETS = (
    Target("messages", "the reader of messages", take_messages, streams, BYTES, 30),
    Target("scan", "a scan, acquisitions", scan_of("acquisitions"), plain_scans, BYTES, 8),
    Target("buckets", "a scan, buckets", scan_of("buffers"), bucket_scans, BYTES, 4),
    Target("header", "the XML header", take_header, headers, XML, 20),
    Target("configuration", "a configuration", take_configuration, configurations, XML, 12),
    Target("meta", "meta of an image", take_meta, metas, XML, 8),
    Target("chain", "a chain file", take_chain, chains, XML, 5),
    Target("card", "a model card", take_card, cards, BYTES, 5),
    Target("recipe", "a training recipe", take_recipe, recipes, BYTES, 3),
    Target("file", "an ISMRMRD file", take_file, files, BYTES, 5),
    Target("recon", "a scan, recon data", scan_of("buffers"), recon_scans, BYTES, 2),
    Target("images", "images to be made finer", scan_of("images"), image_scans, BYTES, 2),
    Target("mrd2", "an MRD v2 stream", take_mrd2, mrd2_streams, BYTES, 4),
    Target("noise", "a noise covariance of MRD v2", take_noise, noises, BYTES, 2),
    Target("parameters", "what a client asks for", take_parameters, parameters, BYTES + XML, 2),
)
"""All of them; of so many inputs as their weights add up to, each gets its weight."""
