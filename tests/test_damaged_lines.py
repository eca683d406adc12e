"""Lines that can't be what was measured, in simulated and in measured scans."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import chpnet_stream.reconstruction as reconstruction
from chpnet_stream.damaged_lines import LIMIT, DamagedLines, damaged_lines
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.scan.slices import Slice
from chpnet_stream.session import Session
from tests.sessions import run, simulated
from tests.test_reconstruction import slices_of

Spoil = Callable[[np.ndarray, np.ndarray, np.random.Generator], None]

QUIET = {
    "R=2": {},
    "R=3": {"acceleration": 3},
    "all lines": {"acceleration": 1},
    "little noise": {"snr": 1000.0},
    "much noise": {"snr": 4.0},
    "no noise": {"snr": None},
    "averages": {"averages": 3},
    "asymmetric echo": {"partial_echo": 0.75},
    "partial Fourier": {"partial_fourier": 0.7},
    "odd matrix": {"matrix": (63, 65)},
    "no noise scan": {"noise_scan": False},
    "no oversampling": {"oversampling": 1},
    "reversed readouts": {"bipolar": True},
    "one coil": {"coils": 1},
    "two coils": {"coils": 2},
}


def damaged(path: Path, spoil: Spoil | None = None, seed: int = 0) -> str:
    """The mark of the first image of a scan whose measured lines `coils ky kx` are spoilt."""
    noise, slices = slices_of(path)
    data: Slice = slices[0]
    if spoil is not None:
        kspace = data.kspace.copy()
        spoil(kspace, np.flatnonzero(data.sampled), np.random.default_rng(seed))
        data = replace(data, kspace=kspace)
    reconstruct = SliceReconstructor(noise, None, method="cg-sense")
    try:
        return reconstruct(data).mark
    finally:
        reconstruct.close()


@pytest.mark.parametrize("case", QUIET)
def test_good_scans_have_no_mark(case: str, tmp_path: Path) -> None:
    options = {"coils": 8, "calibration_lines": 20, "slices": 1} | QUIET[case]
    assert damaged(simulated(tmp_path, **options)) == ""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    return simulated(folder, coils=8, calibration_lines=20, slices=1, snr=60.0)


def test_lines_that_are_empty(scan: Path) -> None:
    def spoil(kspace, lines, rng):
        kspace[:, lines[[1, -2]]] = 0

    _, (data,) = slices_of(scan)
    first, last = np.flatnonzero(data.sampled)[[1, -2]]
    mark = damaged(scan, spoil)
    assert mark.startswith(
        f"measured lines that are empty: 2 (ky {first}, {last}), with less than the"
    )


def test_lines_that_hold_other_lines_samples(scan: Path) -> None:
    def spoil(kspace, lines, rng):
        kspace[:, lines[-1]] = -1j * kspace[:, lines[0]]  # another phase is no disguise

    _, (data,) = slices_of(scan)
    lines = np.flatnonzero(data.sampled)
    mark = damaged(scan, spoil)
    assert f"measured lines that are copies: 1 (ky {lines[0]} and {lines[-1]})" in mark


def swap(kspace, lines, rng):
    kspace[:, [30, 31]] = kspace[:, [31, 30]]


def turn(kspace, lines, rng):
    kspace[:, 33] *= np.exp(1.5j)


def reverse(kspace, lines, rng):
    kspace[:, 29] = kspace[:, 29, ::-1].copy()


def spike(kspace, lines, rng):
    kspace[:, 28, 5] += 0.5 * np.abs(kspace).max()


@pytest.mark.parametrize("spoil", [swap, turn, reverse, spike])
def test_lines_at_odds_with_those_beside_them(spoil: Spoil, scan: Path) -> None:
    at = {swap: (30, 31), turn: (33,), reverse: (29,), spike: (28,)}[spoil]
    mark = damaged(scan, spoil)
    assert mark.startswith("line ky ")
    near = {k + step for k in at for step in (-1, 0, 1)}  # what predicts the next is wrong, too
    assert int(mark.split()[2]) in near
    assert "lines exchanged, spikes, jumps of phase, or motion" in mark


def test_the_mark_is_in_the_meta_of_every_method(scan: Path) -> None:
    with ScanFile(scan) as file:
        session = Session(file.header, ReconstructionOptions(method="zero-filled"), None)

        def empty(data: Slice) -> Slice:
            kspace = data.kspace.copy()
            kspace[:, 32] = 0
            return replace(data, kspace=kspace)

        session.prepare = empty
        (image,) = session.images(file.acquisitions())
    meta = session.to_ismrmrd(image).meta
    assert meta["ChpnetDataMark"].startswith("measured lines that are empty: 1 (ky 32)")
    assert f"check the data: {meta['ChpnetDataMark']}" in meta["ImageComments"]


def test_lines_that_could_not_be_checked_are_told_of(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **named: object) -> DamagedLines:
        raise RuntimeError("no memory")

    monkeypatch.setattr(reconstruction, "damaged_lines", fail)
    _, (image,) = run(scan)
    assert image.result.method == "cg-sense"
    assert image.result.mark == "the lines could not be checked (RuntimeError: no memory)"


def test_noise_alone_is_no_damage() -> None:
    worst = 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        noise = torch.randn(8, 48, 64, dtype=torch.complex64)
        found = damaged_lines(noise, np.ones(64, np.int32), noise=1.0, noise_known=True)
        assert found.mark == ""
        worst = max(worst, found.miss)
    assert 0.8 < worst < 0.85 * LIMIT


@pytest.mark.parametrize("lines", [64, 65])
@pytest.mark.parametrize(("shift", "told"), [(0, -1), (8, -1), (9, 9), (-9, -9)])
def test_a_centre_of_k_space_that_is_elsewhere(lines: int, shift: int, told: int) -> None:
    """Amplitude 1 / (1 + distance from the true centre), as of an object with edges."""
    centre = lines // 2
    amplitude = 1 / (1 + np.abs(np.arange(lines) - centre - shift))
    data = torch.from_numpy(np.fft.ifftshift(amplitude).astype(np.complex64)).expand(2, 16, -1)
    found = damaged_lines(data, np.ones(lines, np.int32), noise=0.0, noise_known=False)
    assert found.strongest == (centre + told if shift and told == shift else -1)
    assert ("wrong center in encodingLimits" in found.mark) == (found.strongest >= 0)


def test_a_wrong_centre_in_the_header_is_told(tmp_path: Path) -> None:
    """All lines 12 rows from where they belong, as with a centre of 20 in place of 32."""

    def spoil(kspace, lines, rng):
        kspace[:] = np.roll(kspace, 12, axis=1)

    path = simulated(tmp_path, coils=8, acceleration=1, slices=1)
    assert "the strongest line is ky 44, 12 lines from ky 32" in damaged(path, spoil)


def test_lines_that_are_no_numbers_are_told_of() -> None:
    noise = torch.randn(8, 48, 64, dtype=torch.complex64)
    noise[3, 7, 11] = torch.nan
    found = damaged_lines(noise, np.ones(64, np.int32), noise=1.0, noise_known=True)
    assert found.miss == np.inf
    assert found.mark


def test_measured_scans_have_no_mark(shared_data: Path) -> None:
    names = ("espirit-full-brain-8ch/brain_full.h5", "espirit-full-brain-8ch/brain_R4_acs24.h5")
    names += ("gadgetron-phantom-14ch-R3/meas_MID00349_FID09273_SNR_R3.h5",)
    for name in names:
        _, images = run(shared_data / name)
        assert images
        assert not any(image.result.mark for image in images), name
