"""`chpnet-stream offline`: what it prints, and how it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest

from chpnet_stream.cli.cmd_offline import command
from chpnet_stream.cli.main import main
from chpnet_stream.mrd import flags
from chpnet_stream.options import ReconstructionOptions
from tests.network.models import tiny_config, untrained, write_model
from tests.sessions import simulated


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log files go to a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def offline(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["offline", *map(str, words)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def scan(small_scan: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage, in a folder of its own."""
    folder = tmp_path / "scans"
    folder.mkdir()
    path = folder / "scan.h5"
    path.write_bytes(small_scan.read_bytes())
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


STREAMS_ONLY = {"deadline_ms", "wake_ms", "send_baseline", "baseline_series", "image_type"}
"""Settings that a file has no use for, or that it does without."""


def test_options_and_their_defaults_are_those_of_the_library() -> None:
    parsed = command.make_context("offline", ["in.h5"]).params
    options = ReconstructionOptions()
    for name in set(type(options).model_fields) - STREAMS_ONLY:
        assert parsed[name] == getattr(options, name)
    assert not STREAMS_ONLY & set(parsed)


def test_a_table_and_images(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert offline(scan, "--method", "cg-sense") == 0
    shown, told = capsys.readouterr()
    assert told == ""
    for line in ("slices            │ 2", "matrix            │ 64 x 64", "coils             │ 4"):
        assert line in shown
    assert "fallbacks         │ 0" in shown
    assert names(scan.parent) == ["scan.h5", "scan_images.h5"]


def test_json_of_a_comparison(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Callable[..., Path]
) -> None:
    out = tmp_path / "out.h5"
    words = ["--model", tiny_model(), "--engine", "onnx", "--compare", "--png", tmp_path / "png"]
    assert offline(scan, "-o", out, *words, "--json") == 0
    shown, _ = capsys.readouterr()
    found = json.loads(shown)
    assert found["slices"] == 2
    assert found["matrix"] == [64, 64]
    assert found["engine"] == "onnx-cpu"
    assert found["model"].startswith("tiny ")
    assert sum(found["method"].values()) == 2
    assert sum(found["fallbacks"].values()) == found["method"].get("cg-sense", 0)
    assert found["latency_p50_ms"] <= found["latency_p95_ms"] <= found["latency_max_ms"]
    assert found["data_marks"] == 0
    assert [row["method"] for row in found["scores"]] == ["zero-filled", "cg-sense", "chpnet"]
    assert found["reference"] == "truth stored in the file"
    assert Path(found["comparison"]) == tmp_path / "png" / "out_compare.png"
    assert names(tmp_path / "png") == [
        "image_00001_slice_000.png",
        "image_00002_slice_001.png",
        "out_compare.png",
    ]


def test_fallbacks_are_in_the_table(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = write_model(tmp_path, untrained(tiny_config(), strength=1e30))
    assert offline(scan, "--model", card, "--engine", "pytorch") == 0
    shown, told = capsys.readouterr()
    assert "not finite 2" in shown
    assert "cg-sense 2" in shown
    assert told.count("\n") == 1
    assert told.startswith("chpnet-stream: warning: slice 0: no image by chpnet, not finite")


# What spoils a copy of the scan, the words after its name, and what the message must have.


def in_file(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "a") as file:
            change(file)

    return spoil


def keep(choose: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Keep only the acquisitions that `choose` picks by their headers."""

    def change(file: h5py.File) -> None:
        data = file["dataset/data"][:]
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=data[choose(data["head"])], chunks=True,
                                       maxshape=(None,))  # fmt: skip

    return in_file(change)


def in_row(row: int, change: Callable[[np.void], None]) -> Callable[[Path], None]:
    def spoil(file: h5py.File) -> None:
        one = file["dataset/data"][row]
        change(one)
        file["dataset/data"][row] = one

    return in_file(spoil)


def in_xml(old: str, new: str) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        xml = file["dataset/xml"][0].decode()
        assert old in xml
        file["dataset/xml"][0] = xml.replace(old, new).encode()

    return in_file(change)


def nan(row: np.void) -> None:
    row["data"] = np.full_like(row["data"], np.nan)


def outside(row: np.void) -> None:
    row["head"]["idx"]["kspace_encode_step_1"] = 99


def three_coils(row: np.void) -> None:
    row["head"]["active_channels"] = 3
    row["data"] = row["data"][: len(row["data"]) * 3 // 4]


def no_file(path: Path) -> None:
    path.unlink()


def text(path: Path) -> None:
    path.write_text("not a scan")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def no_limits(path: Path) -> None:
    with h5py.File(path, "a") as file:
        xml = file["dataset/xml"][0].decode()
        begin = xml.index("<", xml.index("encodingLimits") - 5)
        end = xml.index(">", xml.rindex("encodingLimits")) + 1
        file["dataset/xml"][0] = (xml[:begin] + "<encodingLimits/>" + xml[end:]).encode()


BOMB = '<!DOCTYPE a [<!ENTITY b "c">]><'

BAD = {
    "missing": (no_file, "no file .*give the path"),
    "folder": (folder, "is a folder, expected an ISMRMRD HDF5 file"),
    "not HDF5": (text, r"is not HDF5 \(it begins with b'not a sc'\); expected an ISMRMRD file"),
    "no acquisitions": (keep(lambda h: h["flags"] < 0), "has 0 acquisitions, expected at least"),
    "only noise": (
        keep(lambda h: (h["flags"] & flags.NOISE) > 0),
        "found no image data in the scan .*1 noise.*expected lines",
    ),
    "NaN": (in_row(30, nan), r"acquisition 30 \(slice 0, line 42\).*NaN.*expected finite"),
    "NaN in the noise": (in_row(0, nan), "acquisition 0 .*NaN.*expected finite"),
    "line outside": (in_row(30, outside), "kspace_encode_step_1 = 99 .*outside the encoded matrix"),
    "coils change": (in_row(30, three_coils), "has 3 coils, those before it 4; expected the same"),
    "non-Cartesian": (
        in_xml("<trajectory>cartesian", "<trajectory>spiral"),
        "trajectory is 'spiral', expected 'cartesian'",
    ),
    "no calibration": (
        keep(lambda h: (h["flags"] & flags.CALIBRATION) == 0),
        "found 1 measured lines side by side .*expected at least 8.*--method rss",
    ),
    "no limits": (no_limits, "encodingLimits has no kspace_encoding_step_1, expected"),
    "zero matrix": (in_xml("<y>64</y>", "<y>0</y>"), "matrix is .* expected at least 1"),
    "damaged XML": (in_xml("</encoding>", ""), "plain XML, but it is not well-formed"),
    "DOCTYPE": (in_xml("<ismrmrdHeader", BOMB + "ismrmrdHeader"), "document type"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scans_are_refused_in_one_line(
    case: str, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = BAD[case]
    spoil(scan)
    out = tmp_path / "out"
    out.mkdir()
    assert offline(scan, "-o", out / "out.h5", "--method", "cg-sense") == 2
    refused(capsys, message)
    assert names(out) == []


def refused(capsys: pytest.CaptureFixture[str], message: str) -> None:
    shown, told = capsys.readouterr()
    assert shown == ""
    lines = [line for line in told.splitlines() if not line.startswith("chpnet-stream: warning")]
    assert len(lines) == 1, told
    assert lines[0].startswith("chpnet-stream: error: ")
    assert "Traceback" not in told
    assert re.search(message, lines[0]), lines[0]


@pytest.mark.parametrize("share", [0.0005, 0.005, 0.05, 0.3, 0.7, 0.95, 0.999])
def test_truncated_files(
    share: float, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = scan.read_bytes()
    scan.write_bytes(content[: int(share * len(content))])
    assert offline(scan, "-o", tmp_path / "out.h5", "--method", "cg-sense") == 2
    refused(capsys, "cut off|not HDF5|damaged")
    assert names(tmp_path) == ["scans"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--group", "other"], "has no group 'other', it has: dataset; choose one with --group"),
        (["-o", "none/out.h5"], "no folder none to write out.h5 to; make it first"),
        (["--method", "chpnet", "--model", "chpnet-xt"], "found 'chpnet-xt'; "),
        (["--method", "chpnet", "--model", "none.json"], "expected a model card, found: none.json"),
        (["--model", ""], "property model: found '', expected a text"),
        (["--method", "grappa"], "Invalid value for '--method': 'grappa' is not one of"),
        (["--series", "0"], "'--series': 0 is not in the range 1<=x<=65535"),
        (["--undersample", "4"], "40 of 64 lines, expected all of them.*--undersample"),
        (["-o", "scan.h5", "--overwrite"], "scan.h5 is the scan itself"),
        (["-o", "scan.h5"], "scan.h5 is the scan itself"),
    ],
)
def test_bad_options(
    words: list[str],
    message: str,
    scan: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(scan.parent)
    before = scan.read_bytes()
    assert offline("scan.h5", "--method", "cg-sense", *words) == 2
    refused(capsys, message)
    assert names(scan.parent) == ["scan.h5"]
    assert scan.read_bytes() == before


def test_a_folder_as_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert offline(".") == 2
    refused(capsys, "is a folder")


def test_an_existing_output(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = scan.parent / "scan_images.h5"
    out.write_text("precious")
    assert offline(scan, "--method", "rss") == 2
    refused(capsys, "exists already; choose another name or allow it with --overwrite")
    assert out.read_text() == "precious"
    assert offline(scan, "--method", "rss", "--overwrite") == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(scan: Path, tmp_path: Path, capsys) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert offline(scan, "-o", locked / "out.h5", "--method", "rss") == 2
    refused(capsys, "can't write to folder")


def test_a_folder_of_the_kernel_can_not_be_written(scan: Path, capsys) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc here")
    assert offline(scan, "-o", "/proc/self/out.h5", "--method", "rss") == 2
    refused(capsys, "can't write to folder /proc/self: .*; choose another one with -o$")


def test_a_damaged_model(scan: Path, tmp_path: Path, capsys) -> None:
    card = write_model(tmp_path, untrained(tiny_config()))
    weights = card.with_suffix(".safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    words = ["-o", tmp_path / "out.h5", "--model", card, "--engine", "pytorch"]
    assert offline(scan, *words, "--on-error", "error") == 2
    refused(capsys, "expected SHA-256 .*found .*damaged")
    assert not (tmp_path / "out.h5").exists()
    assert offline(scan, *words) == 0
    told = capsys.readouterr().err
    assert re.search("warning: the network could not be loaded .*SHA-256", told)
    with ismrmrd.Dataset(str(tmp_path / "out.h5"), "dataset", mode="r") as dataset:
        meta = dataset.read_image("image_1", 0).meta
    assert meta["ChpnetMethod"] == "cg-sense"
    assert re.match("engine not loaded: .*SHA-256", meta["ChpnetFallback"])
    (tmp_path / "out.h5").unlink()
    card.write_text("{")
    assert offline(scan, *words) == 2
    refused(capsys, "expected a model card of format 1, found")
    assert not (tmp_path / "out.h5").exists()


def test_debug_writes_the_traceback_to_a_log(scan: Path, tmp_path: Path, capsys) -> None:
    in_row(30, nan)(scan)
    with pytest.raises(SystemExit) as stop:
        main(["--debug", "offline", str(scan), "--method", "cg-sense"])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    log = Path(told.rpartition("[log: ")[2].strip().rstrip("]"))
    assert log.is_relative_to(tmp_path / "state")
    written = log.read_text()
    assert "Traceback (most recent call last)" in written
    assert "BadSamplesError" in written


PROGRAM = [sys.executable, "-m", "chpnet_stream", "offline"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.timeout(300)  # two processes, on a machine that may be busy
def test_exit_codes_of_the_process(scan: Path, tmp_path: Path) -> None:
    def process(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=140,
            env=ENVIRONMENT,
        )

    done = process(scan, "-o", tmp_path / "out.h5", "--method", "cg-sense", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["slices"] == 2
    done = process(tmp_path / "none.h5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.timeout(300)
def test_a_killed_process_leaves_no_output_that_looks_whole(tmp_path: Path) -> None:
    path = simulated(tmp_path, repetitions=60, slices=1)
    folder = tmp_path / "out"
    folder.mkdir()
    with subprocess.Popen(
        [*PROGRAM, str(path), "-o", str(folder / "out.h5"), "--method", "cg-sense"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    ) as process:
        end = time.monotonic() + 200
        while not names(folder) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        begun = names(folder)
        process.send_signal(signal.SIGKILL)
    assert begun
    assert all(name.startswith(".") and name.endswith(".part") for name in begun)
    assert not (folder / "out.h5").exists()
    assert process.returncode == -signal.SIGKILL
    # what is left does not stand in the way of the next run
    assert offline(path, "-o", folder / "out.h5", "--method", "zero-filled") == 0
    with ismrmrd.Dataset(str(folder / "out.h5"), mode="r") as dataset:
        assert dataset.number_of_images("image_1") == 60
