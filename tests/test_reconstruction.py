"""Every method on simulated scans, and what happens when one of them fails."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chpnet_stream import reconstruction
from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.errors import (
    EngineError,
    MissingCalibrationError,
    ReconstructionError,
)
from chpnet_stream.methods import LADDERS, METHODS
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice, SliceAssembler
from chpnet_stream.session import Session
from tests.sessions import FaultyEngine, decibels, quiet_engine, run, simulated

CASES = {  # options, lowest PSNR of CG-SENSE, images, coils after compression
    "R=2": ({}, 37, 2),
    "R=3": ({"acceleration": 3, "slices": 1}, 30, 1),
    "R=4": ({"acceleration": 4, "slices": 1}, 27, 1),
    "averages": ({"averages": 2, "slices": 1}, 39, 1),
    "contrasts": ({"contrasts": 2, "slices": 1}, 36, 2),
    "separate calibration": ({"calibration_mode": "separate", "slices": 1}, 36, 1),
    "reversed lines": ({"bipolar": True, "slices": 1}, 37, 1),
    "odd matrix": ({"matrix": (63, 65), "slices": 1}, 37, 1),
    "no noise scan": ({"noise_scan": False, "slices": 1}, 36, 1),
    "partial Fourier": ({"partial_fourier": 0.75, "slices": 1}, 34.5, 1),
    "asymmetric echo": ({"partial_echo": 0.75, "slices": 1}, 34.5, 1),
    "no oversampling": ({"oversampling": 1, "slices": 1}, 37, 1),
    "noise scan of zeros": ({"snr": None, "slices": 1}, 44, 1),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return quiet_engine(tmp_path_factory.mktemp("quiet"))


def slices_of(path: Path) -> tuple[NoiseScan, list[Slice]]:
    with ScanFile(path) as scan:
        noise = NoiseScan(scan.header.noise_bandwidth)
        found = list(scan.acquisitions())
        for acquisition in found:
            if acquisition.isFlagSet(19):
                noise.add(acquisition)
        return noise, list(SliceAssembler(scan.header).assemble(found))


@pytest.mark.parametrize("case", CASES)
def test_cg_sense_is_near_the_truth_and_nearer_than_zero_filled(case: str, tmp_path: Path) -> None:
    changes, least, number = CASES[case]
    path = simulated(tmp_path, **changes)
    scores = {}
    for method in ("zero-filled", "cg-sense"):
        session, images = run(path, method=method)
        assert len(images) == number
        scores[method] = decibels(session, path, images)
        assert all(i.result.method == method and i.result.fallback is None for i in images)
    assert scores["cg-sense"] > least
    assert scores["cg-sense"] > scores["zero-filled"] + 3


def test_a_network_that_proposes_nothing_is_near_the_truth(engine: Engine, tmp_path: Path) -> None:
    path = simulated(tmp_path)
    session, images = run(path, engine)
    assert decibels(session, path, images) > 37
    assert [i.result.method for i in images] == ["chpnet", "chpnet"]
    for image in images:
        assert image.result.fallback is None
        assert 0 < image.result.residual < 0.1
        assert image.result.notes[-1] == "chpnet"
        assert {"calibration", "start", "network", "checks"} <= set(image.result.milliseconds)


def test_all_methods_agree_on_a_fully_sampled_scan(engine: Engine, tmp_path: Path) -> None:
    path = simulated(tmp_path, acceleration=1, slices=1, averages=4, snr=100.0)
    for method in METHODS:
        session, images = run(path, engine, method=method)
        assert decibels(session, path, images) > 45, method
        assert images[0].result.method == method


def test_one_coil_needs_no_maps(tmp_path: Path) -> None:
    path = simulated(tmp_path, coils=1, acceleration=1, slices=1)
    for method in ("zero-filled", "cg-sense", "rss"):
        session, images = run(path, method=method)
        assert decibels(session, path, images) > 40
        assert images[0].result.virtual_coils == 1
        assert "ESPIRiT" not in images[0].result.notes


@pytest.mark.parametrize("averages", [1, 4])
def test_pixels_count_in_deviations_of_the_noise(averages: int, tmp_path: Path) -> None:
    """Zero-filled full sampling of noise alone: unit variance, over the root of the averages."""
    path = simulated(
        tmp_path, acceleration=1, slices=1, averages=averages, snr=1e-3, matrix=(96, 96)
    )
    _, images = run(path, method="rss")
    coils = images[0].data.kspace.shape[0]
    deviation = np.sqrt((images[0].result.image ** 2).mean() / coils)
    assert deviation == pytest.approx(1 / np.sqrt(averages), rel=0.03)


def test_all_slices_have_one_scale(tmp_path: Path) -> None:
    """A slice is the same image whether it comes alone or after others."""
    path = simulated(tmp_path, slices=3)
    _, together = run(path)
    _, alone = run(path, keep=lambda a: a.isFlagSet(19) or a.idx.slice == 2)
    by_slice = {i.data.counters["slice"]: i.result.image for i in together}
    np.testing.assert_array_equal(alone[0].result.image, by_slice[2])


def test_pocs_is_used_and_told(tmp_path: Path) -> None:
    path = simulated(tmp_path, partial_fourier=0.75, partial_echo=0.75, slices=1)
    session, images = run(path)
    assert images[0].result.notes == (
        "whitened",
        "ESPIRiT",
        "POCS along y",
        "POCS along x",
        "cg-sense",
    )
    history = session.to_ismrmrd(images[0]).meta["ImageProcessingHistory"]
    assert history == ["chpnet-stream", *images[0].result.notes]


def test_the_network_fills_lines_itself(engine: Engine, tmp_path: Path) -> None:
    path = simulated(tmp_path, partial_fourier=0.75, partial_echo=0.75, slices=1)
    _, images = run(path, engine)
    assert images[0].result.notes == ("whitened", "ESPIRiT", "POCS along x", "chpnet")


def fail(problem: Problem) -> torch.Tensor:
    raise EngineError("the engine is broken")


def surprise(problem: Problem) -> torch.Tensor:
    raise TypeError("nobody expected this")


def exhausted(problem: Problem) -> torch.Tensor:
    raise torch.OutOfMemoryError("no memory left on the device")


FAULTS = {
    "engine failed": fail,
    "not finite": lambda p: torch.full_like(p.start, torch.nan),
    "wrong scale": lambda p: 10 * p.start,
    "misses the data": lambda p: p.start.std() * torch.randn_like(p.start),
    "unexpected error": surprise,
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_the_network_gives_the_conventional_image(
    kind: str, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = simulated(tmp_path, slices=3)
    _, expected = run(path, method="cg-sense")
    # the dry run and the first slice go well
    session, images = run(path, FaultyEngine(engine, FAULTS[kind], after=2))
    order = [i.data.counters["slice"] for i in images]
    assert order == [i.data.counters["slice"] for i in expected] == [0, 2, 1]
    assert [i.result.method for i in images] == ["chpnet", "cg-sense", "cg-sense"]
    for found, wanted in zip(images[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(found.result.image, wanted.result.image)
        assert found.result.wanted == "chpnet"
        assert found.result.fallback.startswith(f"{kind}: ")
        meta = session.to_ismrmrd(found).meta
        assert meta["ChpnetFallback"] == found.result.fallback
        assert meta["ChpnetMethod"] == "cg-sense"
        assert "ChpnetModel" not in meta
        assert meta["ImageComments"][1].startswith(f"cg-sense instead of chpnet: {kind}: ")
        assert meta["ImageProcessingHistory"][-1] == "cg-sense"
    assert session.metrics.fallbacks == {kind: 2}
    assert session.metrics.methods == {"chpnet": 1, "cg-sense": 2}
    warnings = [r for r in caplog.records if r.name == "chpnet_stream.reconstruction"]
    assert len(warnings) == 1
    assert kind in warnings[0].getMessage()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (exhausted, "unexpected error: OutOfMemoryError"),
        (lambda p: p.start[..., :-1], "engine failed: expected an image"),
        (lambda p: 0 * p.start, "misses the data"),
        (lambda p: 0.1 * p.start, "misses the data"),
        (lambda p: p.start.flip(-2), "misses the data"),
    ],
)
def test_more_faults(fault, kind: str, engine: Engine, small_scan: Path) -> None:
    _, images = run(small_scan, FaultyEngine(engine, fault))
    assert [i.result.method for i in images] == ["cg-sense", "cg-sense"]
    assert images[0].result.fallback.startswith(kind)


def test_without_network_and_cg_sense_there_is_the_root_sum_of_squares(
    engine: Engine, small_scan: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(SliceReconstructor, "_solve", broken)
    _, expected = run(small_scan, method="rss")
    session, images = run(small_scan, engine)
    assert len(images) == 2
    for found, wanted in zip(images, expected, strict=True):
        assert found.result.method == "rss"
        assert found.result.fallback.count("unexpected error: RuntimeError: the device") == 2
        np.testing.assert_array_equal(found.result.image, wanted.result.image)
    assert session.metrics.fallbacks == {"unexpected error": 2}
    assert caplog.records[0].exc_info is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU that does not fail")
def test_a_gpu_that_is_gone_costs_no_slice(small_scan: Path) -> None:
    """Whatever is asked of it raises, the wait of the clock for its work too: the CPU does it."""
    noise, slices = slices_of(small_scan)
    gone = torch.device("cuda")
    with pytest.raises(Exception, match="CUDA"):
        torch.cuda.synchronize(gone)
    for method in ("cg-sense", "zero-filled", "rss"):
        _, expected = run(small_scan, method=method)
        reconstruct = SliceReconstructor(noise, None, method=method, device=gone)
        for data, wanted in zip(slices, expected, strict=True):
            result = reconstruct(data)
            assert result.method == result.wanted == method
            assert method == "rss" or "CUDA" in result.fallback  # which never asks it
            np.testing.assert_array_equal(result.image, wanted.result.image)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU that does not fail")
def test_a_session_whose_gpu_is_gone_says_so(small_scan: Path, engine: Engine) -> None:
    """Of a scan that asks for the network it gets conventional images, of the CPU."""
    gone = FaultyEngine(engine, lambda problem: problem.start)
    gone.device = torch.device("cuda")
    session, images = run(small_scan, gone)
    _, expected = run(small_scan)
    for image, wanted in zip(images, expected, strict=True):
        assert (image.result.method, image.result.wanted) == ("cg-sense", "chpnet")
        np.testing.assert_array_equal(image.result.image, wanted.result.image)
        told = session.to_ismrmrd(image).meta
        assert "CUDA" in told["ChpnetFallback"]
    assert session.metrics.fallbacks == {"unexpected error": 2}


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU that does not fail")
def test_a_gpu_that_never_answers_is_asked_once(
    small_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise, slices = slices_of(small_scan)
    _, expected = run(small_scan)
    monkeypatch.setattr(reconstruction, "HANG_SECONDS", 0.2)
    free, asked = threading.Event(), []
    reconstruct = SliceReconstructor(noise, None, method="cg-sense", device=torch.device("cuda"))
    reconstruct.apart = True

    def hangs(data: Slice) -> None:
        asked.append(data)
        free.wait(60)

    monkeypatch.setattr(reconstruct.calibration, "sensitivities", hangs)
    made_by_cpu: list[int] = []
    refuge = reconstruct._refuge

    def counted(job: Any, ladder: Any) -> Any:
        made_by_cpu.append(job.data.serial)
        return refuge(job, ladder)

    monkeypatch.setattr(reconstruct, "_refuge", counted)
    for data, wanted in zip(slices, expected, strict=True):
        result = reconstruct(data)
        assert result.method == "cg-sense"
        assert result.fallback.startswith("GPU hangs: no answer within 0.2 s")
        np.testing.assert_array_equal(result.image, wanted.result.image)
    assert len(asked) == 1
    assert made_by_cpu == [slices[0].serial, slices[1].serial]
    late = reconstruct.runner._thread
    assert late is not None
    free.set()
    reconstruct.close()
    late.join(60)
    assert len(made_by_cpu) == 2  # the answer comes late, and fails: nobody needs its slice again


@pytest.mark.parametrize("unit", [1e-25, 1e30])
def test_samples_at_the_ends_of_their_range_give_an_image(unit: float, small_scan: Path) -> None:
    noise, slices = slices_of(small_scan)
    plain = SliceReconstructor(noise, None, method="rss")(slices[0]).image
    slices[0].kspace = (slices[0].kspace * unit).astype(np.complex64)
    found = SliceReconstructor(noise, None, method="rss")(slices[0]).image
    np.testing.assert_allclose(found, plain * unit, rtol=1e-4, atol=1e-4 * unit * plain.max())


def empty(data: Slice) -> Slice:
    data.kspace[:] = 0
    data.calibration[:] = 0
    return data


def test_an_empty_slice_gives_an_empty_image(engine: Engine, small_scan: Path) -> None:
    noise, (first, second) = slices_of(small_scan)
    for order in ([empty(first), second], [second, empty(first)]):
        reconstruct = SliceReconstructor(noise, engine)
        results = {id(data): reconstruct(data) for data in order}
        assert results[id(second)].method == "chpnet"
        blank = results[id(first)]
        assert blank.method == "rss"
        assert blank.fallback.startswith("no coil maps: slice 0: no coil sensitivities")
        assert not blank.image.any()


def test_an_empty_first_slice_does_not_set_the_scale(tmp_path: Path) -> None:
    _, (first, second) = slices_of(simulated(tmp_path, noise_scan=False))
    alone = SliceReconstructor(NoiseScan(), None, method="cg-sense")(second)
    reconstruct = SliceReconstructor(NoiseScan(), None, method="cg-sense")
    reconstruct(empty(first))
    assert reconstruct.calibration.noise_source == "none"
    np.testing.assert_array_equal(reconstruct(second).image, alone.image)
    assert reconstruct.calibration.noise_source == "estimated"


@pytest.mark.parametrize(("coils", "acceleration"), [(1, 1), (4, 2)])
def test_an_empty_image_does_not_set_the_scale_of_its_place(
    coils: int, acceleration: int, tmp_path: Path
) -> None:
    """Maps that were made for it, from calibration lines that are not empty, are not kept."""
    path = simulated(tmp_path, coils=coils, acceleration=acceleration, slices=1, noise_scan=False)
    _, (data,) = slices_of(path)
    alone = SliceReconstructor(NoiseScan(), None, method="cg-sense")(data)
    reconstruct = SliceReconstructor(NoiseScan(), None, method="cg-sense")
    blank = reconstruct(replace(data, kspace=np.zeros_like(data.kspace)))
    assert not blank.image.any()
    found = reconstruct(data)
    assert found.method == "cg-sense"
    np.testing.assert_allclose(found.image, alone.image, rtol=1e-4, atol=1e-3)
    made = reconstruct.calibration.made
    reconstruct(data)
    assert reconstruct.calibration.made == made  # these are


def test_a_slice_of_noise_alone_is_no_fallback(engine: Engine, tmp_path: Path) -> None:
    """Slices beyond the head are no fault of the network's."""
    path = simulated(tmp_path, slices=1, snr=1e-3)
    _, images = run(path, engine)
    assert images[0].result.fallback is None
    assert np.isfinite(images[0].result.image).all()


def test_a_scan_without_calibration_is_refused_at_its_first_slice(small_scan: Path) -> None:
    noise, slices = slices_of(small_scan)
    for data in slices:
        data.calibration, data.calibrated[:] = None, False
        data.sampled[1::2] = 0
    reconstruct = SliceReconstructor(noise, None, method="cg-sense")
    with pytest.raises(MissingCalibrationError, match=r"found 1 measured lines.*--method rss"):
        reconstruct(slices[0])
    assert SliceReconstructor(noise, None, method="rss")(slices[0]).fallback is None


def test_calibration_missing_in_the_middle_of_a_scan_costs_no_slice(small_scan: Path) -> None:
    noise, (first, second) = slices_of(small_scan)
    second.calibration, second.calibrated[:] = None, False
    second.sampled[1::2] = 0
    reconstruct = SliceReconstructor(noise, None, method="cg-sense")
    assert reconstruct(first).method == "cg-sense"
    result = reconstruct(second)
    assert result.method == "rss"
    assert result.wanted == "cg-sense"
    assert result.fallback.startswith("no coil maps: ")


def test_an_incomplete_first_slice_without_calibration_still_goes_out(small_scan: Path) -> None:
    noise, (first, _) = slices_of(small_scan)
    first.calibration, first.calibrated[:] = None, False
    first.sampled[20:] = 0
    first.kspace[:, 20:] = 0
    first.complete, first.missing_lines = False, 22
    result = SliceReconstructor(noise, None, method="cg-sense")(first)
    assert result.method == "rss"
    assert result.image.max() > 0


def test_an_interrupted_slice_goes_out_marked(engine: Engine, tmp_path: Path) -> None:
    path = simulated(tmp_path)
    late = ("kspace_encode_step_1", 50)
    session, images = run(
        path,
        engine,
        keep=lambda a: a.isFlagSet(19) or a.idx.slice == 0 or getattr(a.idx, late[0]) < late[1],
    )
    assert [i.data.complete for i in images] == [True, False]
    assert session.metrics.incomplete == 1
    meta = session.to_ismrmrd(images[1]).meta
    assert meta["ChpnetMissingLines"] == "7"
    assert "incomplete slice, 7 lines missing" in meta["ImageComments"]
    assert np.isfinite(images[1].result.image).all()
    session, images = run(
        path, keep=lambda a: a.isFlagSet(19) or a.idx.slice == 0 or a.idx.kspace_encode_step_1 < 50
    )
    assert "POCS along y" in images[1].result.notes
    assert decibels(session, path, images) > 33


def test_a_slice_cut_off_before_the_centre_is_no_crash(small_scan: Path) -> None:
    _, images = run(
        small_scan,
        keep=lambda a: a.isFlagSet(19) or a.idx.slice == 0 or a.idx.kspace_encode_step_1 < 12,
    )
    assert [i.result.method for i in images] == ["cg-sense", "rss"]
    assert not images[1].data.complete


def test_data_that_contradict_themselves_are_marked(engine: Engine, tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=1, snr=300.0)
    session, (image,) = run(path, engine)
    assert image.result.mark == ""
    assert "ChpnetDataMark" not in session.to_ismrmrd(image).meta
    session = Session(session.header, ReconstructionOptions(method="chpnet"), engine)
    rng = np.random.default_rng(0)
    session.prepare = lambda data: replace(
        data, kspace=data.kspace * np.exp(2j * rng.standard_normal((64, 1))).astype(np.complex64)
    )
    with ScanFile(path) as scan:
        (image,) = session.images(scan.acquisitions())
    assert "the conventional image misses the data by " in image.result.mark
    meta = session.to_ismrmrd(image).meta
    assert meta["ChpnetDataMark"] == image.result.mark
    assert f"check the data: {image.result.mark}" in meta["ImageComments"]


@pytest.mark.parametrize("fit", [True, False])
def test_with_a_deadline_both_images_of_such_data_are_marked(
    fit: bool, engine: Engine, tmp_path: Path
) -> None:
    """Also where the network's image, whose checks found it, is not the one that goes out."""
    path = simulated(tmp_path, slices=1, snr=300.0)
    used = engine if fit else FaultyEngine(engine, lambda p: 3 * p.start, after=1)
    options = ReconstructionOptions(method="chpnet", deadline_ms=1e7, send_baseline=True)
    rng = np.random.default_rng(0)
    with ScanFile(path) as scan:
        session = Session(scan.header, options, used)
        session.prepare = lambda data: replace(
            data,
            kspace=data.kspace * np.exp(2j * rng.standard_normal((64, 1))).astype(np.complex64),
        )
        (image,) = session.images(scan.acquisitions())
    result = image.result
    assert result.method == ("chpnet" if fit else "cg-sense")
    assert result.baseline is not None
    for one in (result, result.baseline):
        assert "the conventional image misses the data by " in one.mark
    for message in session.messages(image):
        assert message.meta["ChpnetDataMark"] == result.mark


def test_bad_pixels_are_never_sent(small_scan: Path) -> None:
    noise, slices = slices_of(small_scan)
    slices[0].kspace[0, 32, 3] = np.nan  # of a line that was measured
    reconstruct = SliceReconstructor(noise, None, method="cg-sense")
    with pytest.raises(ReconstructionError, match=r"slice 0: expected an image, found none by"):
        reconstruct(slices[0])
    assert reconstruct(slices[1]).fallback is None


def test_a_noise_scan_of_other_coils_costs_no_image(small_scan: Path, tmp_path: Path) -> None:
    other, _ = slices_of(simulated(tmp_path, coils=3))
    _, slices = slices_of(small_scan)
    for method in ("cg-sense", "rss"):
        reconstruct = SliceReconstructor(other, None, method=method)
        made = reconstruct(slices[0])
        same = SliceReconstructor(NoiseScan(), None, method=method)(slices[0])
        assert (made.method, made.fallback) == (method, None)
        assert reconstruct.calibration.noise_source == "estimated"
        np.testing.assert_array_equal(made.image, same.image)


def test_arguments_are_checked(engine: Engine, small_scan: Path) -> None:
    assert set(LADDERS) == set(METHODS)
    with pytest.raises(ValueError, match="expected a method of chpnet"):
        SliceReconstructor(NoiseScan(), None, method="grappa")
    with pytest.raises(ValueError, match="expected an engine"):
        SliceReconstructor(NoiseScan(), None)
    noise, slices = slices_of(small_scan)
    reconstruct = SliceReconstructor(noise, None, method="cg-sense")
    for method in ("chpnet", "grappa"):
        with pytest.raises(ValueError, match=method):
            reconstruct(slices[0], method)
