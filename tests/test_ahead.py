"""Work done while a slice is measured changes no answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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
    assert session.reconstructor.calibration._thread is None


def test_slices_changed_by_their_owner_are_not_anticipated(
    tmp_path: Path, lines_put: list[int]
) -> None:
    with ScanFile(simulated(tmp_path, slices=1)) as scan:
        session = Session(scan.header, ReconstructionOptions(method="cg-sense"))
        session.prepare = lambda data: data
        images = list(session.images(scan.acquisitions()))
    assert len(images) == len(lines_put) == 1
    assert torch.is_inference_mode_enabled() is False
