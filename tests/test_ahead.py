"""Work done while a slice is measured changes no answer."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chpnet_stream.damaged_lines import DamagedLines
from chpnet_stream.line_prediction import LinePrediction, predict_lines
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.session import Session, SessionImage
from tests.sessions import quiet_engine, simulated

SCANS: dict[str, dict[str, Any]] = {
    "embedded": {},
    "separate calibration": {"calibration_mode": "separate"},
    "averages": {"averages": 2},
    "averages, fully sampled": {"averages": 2, "acceleration": 1},
    "partial Fourier": {"partial_fourier": 0.75},
    "asymmetric echo": {"partial_echo": 0.8},
    "reversed readouts": {"bipolar": True},
    "no noise scan": {"noise_scan": False, "repetitions": 2},
    "fully sampled": {"acceleration": 1},
    "repetitions": {"repetitions": 3},
    "contrasts": {"contrasts": 2},
    "one coil": {"coils": 1, "acceleration": 1},
    "odd matrix": {"matrix": (61, 47)},
}


def images_of(
    path: Path, engine: Any, *, ahead: bool, shuffle: bool = False
) -> tuple[Session, list[SessionImage]]:
    """Images of a scan, made with or without work ahead of the last line."""
    with ScanFile(path) as scan:
        options = ReconstructionOptions(method="chpnet" if engine else "cg-sense")
        session = Session(scan.header, options, engine)
        session.reconstructor._anticipates = ahead
        lines = list(scan.acquisitions())
    if shuffle:
        lines = shuffled(lines)
    images = []
    for line in lines:
        images += session.feed(line)
        maps = [b.maps for b in session.reconstructor._ahead._begun.values() if b.maps]
        for future in maps:
            future.exception(60)  # so that the lines that follow find them ready, always
    images += session.finish()
    return session, images


def shuffled(lines: list[Any]) -> list[Any]:
    """The lines of every slice in another order, but for those that begin or end something."""
    edges = flags.IMAGE_EDGES | flags.LAST_IN_MEASUREMENT | flags.NOISE
    free: dict[tuple[int, int], list[int]] = {}
    for number, line in enumerate(lines):
        if not int(line.flags) & edges:
            free.setdefault((line.idx.slice, line.idx.repetition), []).append(number)
    made = list(lines)
    for numbers in free.values():
        order = np.random.default_rng(len(numbers)).permutation(numbers)
        for number, other in zip(numbers, order, strict=True):
            made[number] = lines[other]
    return made


@pytest.fixture
def lines_put(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of lines that were worked on together."""
    from chpnet_stream.physics import coil_lines

    put: list[int] = []
    real = coil_lines.CoilLines.put

    def counting(self: Any, rows: np.ndarray, kspace: np.ndarray) -> None:
        put.append(len(rows))
        real(self, rows, kspace)

    monkeypatch.setattr(coil_lines.CoilLines, "put", counting)
    return put


@pytest.mark.parametrize("kind", SCANS)
def test_images_are_the_same_as_without(kind: str, tmp_path: Path, lines_put: list[int]) -> None:
    path = simulated(tmp_path, **{"slices": 2, **SCANS[kind]})
    _, plain = images_of(path, None, ahead=False)
    whole = list(lines_put)
    lines_put.clear()
    session, early = images_of(path, None, ahead=True)
    assert session.reconstructor._anticipates  # nothing has failed on the way
    assert len(plain) == len(early) > 0
    for one, other in zip(plain, early, strict=True):
        assert one.data.counters == other.data.counters
        top = float(one.result.image.max())
        np.testing.assert_allclose(other.result.image, one.result.image, atol=3e-6 * top)
        assert other.result.residual == pytest.approx(one.result.residual, abs=1e-5)
        assert other.result.notes == one.result.notes
    assert len(whole) == len(plain)  # all lines of a slice at once
    if kind != "one coil":
        assert len(lines_put) > len(plain)  # most of them before the slice was complete


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often lines were predicted while a slice was measured, and when it was complete."""
    from chpnet_stream import ahead, damaged_lines

    calls = {"ahead": 0, "at the end": 0}

    def counting(where: str) -> Any:
        def predict(*words: Any) -> LinePrediction:
            calls[where] += 1
            return predict_lines(*words)

        return predict

    monkeypatch.setattr(ahead, "predict_lines", counting("ahead"))
    monkeypatch.setattr(damaged_lines, "predict_lines", counting("at the end"))
    return calls


def looked_at(path: Path, *, ahead: bool, spoil: Any = None) -> DamagedLines:
    """What was found of the lines of a scan's first slice."""
    found: list[DamagedLines] = []
    with ScanFile(path) as scan:
        session = Session(scan.header, ReconstructionOptions(method="cg-sense"))
        session.reconstructor._anticipates = ahead
        session.reconstructor.inspected = found.append
        for line in scan.acquisitions():
            session.feed(spoil(line) if spoil else line)
            for begun in session.reconstructor._ahead._begun.values():
                if begun.maps:
                    begun.maps.exception(60)
        list(session.finish())
    return found[0]


MANY_LINES = {"slices": 1, "coils": 8, "matrix": (128, 64), "calibration_lines": 20}


@pytest.mark.parametrize(
    "kind", [{}, {"averages": 3}, {"partial_echo": 0.75}, {"partial_fourier": 0.75}]
)
def test_lines_are_predicted_while_the_slice_is_measured(
    kind: dict[str, Any], tmp_path: Path, predicted: dict[str, int]
) -> None:
    path = simulated(tmp_path, **MANY_LINES, acceleration=3, **kind)
    plain = looked_at(path, ahead=False)
    assert predicted == {"ahead": 0, "at the end": 1}
    early = looked_at(path, ahead=True)
    assert predicted["ahead"] >= 1
    assert predicted["at the end"] == 1  # that of `plain`
    assert early.worst == plain.worst >= 0
    assert early.miss == pytest.approx(plain.miss, rel=1e-3)


@pytest.mark.parametrize("kind", ["averaged", "replaced"])
def test_lines_that_change_after_they_were_predicted_are_predicted_again(
    kind: str, tmp_path: Path, predicted: dict[str, int]
) -> None:
    path = simulated(tmp_path, **MANY_LINES, acceleration=3, snr=60.0)
    good = looked_at(path, ahead=True)
    row = 64 if kind == "averaged" else 65  # measured for the image; for the maps alone

    def spoil(line: Any) -> Any:
        """The last line, at the edge of k-space, says that it is of the middle."""
        if int(line.flags) & flags.LAST_IN_SLICE:
            line.idx.kspace_encode_step_1 = row
        return line

    predicted |= {"ahead": 0, "at the end": 0}
    bad = looked_at(path, ahead=True, spoil=spoil)
    assert predicted["ahead"] == predicted["at the end"] == 1
    plain = looked_at(path, ahead=False, spoil=spoil)
    assert bad.miss == pytest.approx(plain.miss, rel=1e-3)
    assert bad.miss > 2 * good.miss
    assert row - 1 <= bad.worst == plain.worst <= row + 1


def test_lines_in_any_order(tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=1, repetitions=2)
    _, plain = images_of(path, None, ahead=False)
    session, early = images_of(path, None, ahead=True, shuffle=True)
    assert session.reconstructor._anticipates
    for one, other in zip(plain, early, strict=True):
        top = float(one.result.image.max())
        np.testing.assert_allclose(other.result.image, one.result.image, atol=3e-6 * top)


def test_the_network_sees_the_same_too(tmp_path: Path) -> None:
    engine = quiet_engine(tmp_path)
    path = simulated(tmp_path, slices=2)
    _, plain = images_of(path, engine, ahead=False)
    _, early = images_of(path, engine, ahead=True)
    for one, other in zip(plain, early, strict=True):
        assert one.result.method == other.result.method == "chpnet"
        top = float(one.result.image.max())
        np.testing.assert_allclose(other.result.image, one.result.image, atol=3e-6 * top)


def test_a_slice_is_never_lost_to_what_fails_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = simulated(tmp_path, slices=2)
    _, plain = images_of(path, None, ahead=False)
    from chpnet_stream.ahead import Ahead

    def broken(self: Any, growing: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Ahead, "grow", broken)
    _, images = images_of(path, None, ahead=True)
    for one, other in zip(plain, images, strict=True):
        assert np.array_equal(other.result.image, one.result.image)
    assert caplog.text.count("slices are prepared when they are complete: out of memory") == 1


def test_nothing_is_kept_of_slices_that_are_done(tmp_path: Path) -> None:
    session, images = images_of(simulated(tmp_path, slices=3, repetitions=2), None, ahead=True)
    assert len(images) == 6
    assert not session.reconstructor._ahead._begun
    for thread in threading.enumerate():
        if thread.name == "maps":
            thread.join(60)
            assert not thread.is_alive()


def test_slices_changed_by_their_owner_are_not_anticipated(
    tmp_path: Path, lines_put: list[int]
) -> None:
    with ScanFile(simulated(tmp_path, slices=1)) as scan:
        session = Session(scan.header, ReconstructionOptions(method="cg-sense"))
        session.prepare = lambda data: data
        images = list(session.images(scan.acquisitions()))
    assert len(images) == len(lines_put) == 1
    assert torch.is_inference_mode_enabled() is False
