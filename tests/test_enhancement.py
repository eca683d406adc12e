"""Images made finer by a network of the superres task, or passed on and marked."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest
import torch

from chpnet_stream import enhancement
from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.enhancement import Enhancer, estimate_image_noise
from chpnet_stream.errors import EngineError, ModelError, ReconstructionError
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.network.normal import SuperresNormal
from chpnet_stream.network.weights import find_model
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.streaming.images import ImageHandler
from tests.network.models import tiny_config, untrained, write_model
from tests.physics.cases import phantom
from tests.sessions import FaultyEngine, quiet_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A network that proposes no change: what is left is data consistency."""
    folder = tmp_path_factory.mktemp("superres")
    model = find_model(write_model(folder, untrained(tiny_config(task="superres"), strength=0.0)))
    return PyTorchEngine(model, torch.device("cpu"))


def head(phase: np.ndarray | float = 0.0) -> np.ndarray:
    """A phantom of 24 x 32 with some phase."""
    truth = phantom((48, 64)).abs().numpy()
    low = truth.reshape(24, 2, 32, 2).mean(axis=(1, 3))
    return 300 * low * np.exp(1j * np.asarray(phase))


def test_the_network_is_consistent_with_the_image_it_got(engine: Engine) -> None:
    image = np.abs(head()).astype(np.float32)
    made = Enhancer(engine)(image)
    assert made.fallback is None
    assert made.image.shape == (48, 64)
    assert made.image.dtype == np.float32
    back = made.image.reshape(24, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(back, image, atol=0.05 * image.max())
    assert made.residual == pytest.approx(
        np.linalg.norm(back - image) / np.linalg.norm(image), abs=1e-4
    )


def test_phases_are_kept(engine: Engine) -> None:
    _, x = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 32), indexing="ij")
    image = head(2.0 * x).astype(np.complex64)
    made = Enhancer(engine)(image).image
    assert made.dtype == np.complex64
    back = made.reshape(24, 2, 32, 2).mean(axis=(1, 3))
    bright = np.abs(image) > 0.3 * np.abs(image).max()
    difference = np.angle(back * image.conj())[bright]
    assert np.abs(difference).max() < 0.1


def test_signs_of_real_images_are_kept(engine: Engine) -> None:
    image = np.abs(head()).astype(np.float32)
    signed = image.copy()
    signed[:, :16] *= -1
    made = Enhancer(engine)(signed).image
    assert made.dtype == np.float32
    assert (made[:, :31] <= 0).all()
    assert (made[:, 33:] >= 0).all()
    np.testing.assert_allclose(np.abs(made), Enhancer(engine)(image).image)


def test_one_scale_for_all_images_of_a_scan(engine: Engine) -> None:
    image = np.abs(head()).astype(np.float32)
    enhancer = Enhancer(engine)
    first = enhancer(image).image
    dim = enhancer(0.1 * image).image
    assert dim.sum() == pytest.approx(0.1 * first.sum(), rel=0.05)


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "not finite": (lambda p: torch.full_like(p.start, float("nan")), "not finite"),
    "misses": (lambda p: 3 * p.start, "misses the data"),
    "crash": (lambda p: p.nothing, "unexpected error"),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_what_is_not_fit_is_replaced_by_interpolation(engine: Engine, name: str) -> None:
    fault, kind = FAULTS[name]
    image = np.abs(head()).astype(np.float32)
    enhancer = Enhancer(FaultyEngine(engine, fault))
    made = enhancer(image)
    assert made.fallback is not None
    assert made.fallback.startswith(kind)
    assert made.image.sum() == pytest.approx(4 * image.sum(), rel=0.05)
    assert enhancer.fallbacks == {kind: 1}


def test_empty_damaged_and_late_images(engine: Engine) -> None:
    assert Enhancer(engine)(np.zeros((8, 8), np.float32)).fallback == "the image that came is empty"
    nan = Enhancer(engine)(np.full((8, 8), np.nan, np.float32))
    assert nan.fallback == "the image that came has NaN or infinite pixels"
    late = Enhancer(engine)(np.ones((8, 8), np.float32), deadline=time.monotonic() - 1)
    assert late.fallback is not None
    assert late.fallback.startswith("late")


@pytest.mark.parametrize("kind", ["float32", "complex64"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_damaged_pixel_stays_where_it_is(engine: Engine, kind: str, value: float) -> None:
    """Neither its image nor those behind it are lost."""
    whole = head().astype(kind) if kind == "complex64" else np.abs(head()).astype(kind)
    damaged = whole.copy()
    damaged[12, 16] = value
    enhancer = Enhancer(engine)
    first = enhancer(damaged)
    assert first.fallback == "the image that came has NaN or infinite pixels"
    assert np.isfinite(first.image).all()
    far = np.ones((48, 64), bool)
    far[20:30, 28:38] = False
    expected = without_network(engine, whole)
    np.testing.assert_allclose(first.image[far], expected[far], rtol=1e-3, atol=0.05)
    second = enhancer(whole)
    assert second.fallback is None
    np.testing.assert_allclose(
        np.abs(second.image), np.abs(Enhancer(engine)(whole).image), rtol=1e-3, atol=0.05
    )


def without_network(engine: Engine, image: np.ndarray) -> np.ndarray:
    """The interpolated image."""
    enhancer = Enhancer(engine)
    enhancer.given_up = "not asked"
    return enhancer(image).image


def test_an_image_that_overflows_when_it_is_measured_again_is_not_sent(engine: Engine) -> None:
    faulty = FaultyEngine(engine, lambda p: torch.full_like(p.start, 3e38))
    enhancer = Enhancer(faulty)
    enhancer.normal = SuperresNormal(2, "centre")
    made = enhancer(np.abs(head()).astype(np.float32))
    assert made.fallback is not None
    assert made.fallback.startswith("misses the data")
    assert made.image.max() < 1e4


def test_a_network_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="for the task 'kspace', expected one for 'superres'"):
        Enhancer(quiet_engine(tmp_path))


def test_noise_of_an_image_is_found() -> None:
    noise = 3 * torch.randn(128, 128, generator=torch.Generator().manual_seed(1))
    rows = torch.linspace(0, 500, 128)[:, None]
    assert estimate_image_noise(rows + noise) == pytest.approx(3, rel=0.05)
    assert estimate_image_noise(torch.ones(1, 5)) == 0


def test_a_gpu_that_gives_no_answer_is_asked_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhancement, "HANG_SECONDS", 0.2)
    free, asked = threading.Event(), []

    def hangs(problem: Any) -> Any:
        asked.append(problem)
        free.wait(60)
        return problem.start

    hung = FaultyEngine(engine, hangs)
    hung.device = torch.device("meta")
    enhancer = Enhancer(hung)
    try:
        for _ in range(3):
            made = enhancer(np.abs(head()).astype(np.float32))
            assert made.fallback is not None
            assert made.fallback.startswith("GPU hangs: no answer within 0.2 s")
            assert made.image.shape == (48, 64)
    finally:
        free.set()
        enhancer.runner.close()
    assert len(asked) == 1


def handler(engine: Engine | None, **options: Any) -> ImageHandler:
    def find(wanted: ReconstructionOptions) -> Enhancer:
        if engine is None:
            raise ModelError("no model for it")
        return Enhancer(engine)

    return ImageHandler(ReconstructionOptions(**options), find)


def image(dtype: str = "complex64", **fields: Any) -> Any:
    data = head() if np.dtype(dtype).kind == "c" else np.abs(head())
    made = ismrmrd.Image.from_array(data.astype(dtype), transpose=False, **fields)
    made.field_of_view = (256.0, 192.0, 5.0)
    made.position, made.read_dir, made.slice = (1.0, 2.0, 3.0), (0.0, 1.0, 0.0), 4
    made.meta = {"ImageProcessingHistory": "GRAPPA", "SeriesDescription": "t2"}
    return made


@pytest.mark.parametrize("dtype", ["complex64", "float32", "uint16"])
def test_images_keep_geometry_type_and_meta(engine: Engine, dtype: str) -> None:
    source = image(dtype)
    doing = handler(engine)
    (made,) = doing.take(source, 0.0)
    assert list(doing.finish()) == []
    assert made.data.shape == (1, 1, 48, 64)
    assert made.data.dtype == np.dtype(dtype)
    assert tuple(made.getHead().matrix_size) == (64, 48, 1)
    for name in ("field_of_view", "position", "read_dir", "slice"):
        assert np.array_equal(getattr(made, name), getattr(source, name))
    assert made.meta["SeriesDescription"] == "t2"
    assert made.meta["SequenceDescriptionAdditional"] == "chpnet superres x2"
    history = made.meta["ImageProcessingHistory"]
    assert history == ["GRAPPA", "chpnet-stream", "superres x2"]
    assert made.meta["ChpnetModel"] == "tiny"
    assert "ChpnetFallback" not in made.meta
    assert doing.metrics.methods == {"superres": 1}


def test_the_name_that_a_gadget_before_gave_the_series_is_kept(engine: Engine) -> None:
    source = image()
    source.meta = {"SequenceDescriptionAdditional": "FIRE"}
    (made,) = handler(engine).take(source, 0.0)
    assert made.meta["SequenceDescriptionAdditional"] == "FIRE_chpnet superres x2"


def array() -> ImageArray:
    data = np.stack([head().T, 2 * head().T], axis=-1).astype(np.complex64)
    data = data.reshape(32, 24, 1, 1, 2, 1, 1)
    heads = np.empty((2, 1, 1), object)
    for i in range(2):
        heads[i, 0, 0] = ismrmrd.ImageHeader(slice=i, matrix_size=(32, 24, 1), data_type=7)
    return ImageArray(np.asfortranarray(data), heads, [b"", image().meta.serialize().encode()])


def test_image_arrays(engine: Engine) -> None:
    (made,) = handler(engine).take(array(), 0.0)
    assert made.data.shape == (64, 48, 1, 1, 2, 1, 1)
    ratio = np.abs(made.data[..., 1, 0, 0]).sum() / np.abs(made.data[..., 0, 0, 0]).sum()
    assert ratio == pytest.approx(2, rel=0.05)
    for i, header in enumerate(made.headers.ravel()):
        assert tuple(header.matrix_size) == (64, 48, 1)
        assert header.slice == i
    meta = ismrmrd.Meta.deserialize(made.meta[1].decode())
    assert meta["SeriesDescription"] == "t2"
    assert meta["ChpnetMethod"] == "superres x2"
    single = handler(engine)
    source = image()
    (plain,) = single.take(source, 0.0)
    np.testing.assert_allclose(made.data[:, :, 0, 0, 0, 0, 0].T, plain.data[0, 0], rtol=1e-5)


def test_without_a_model_images_go_on_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    doing = handler(None)
    source = image()
    before = source.data.copy()
    (made,) = doing.take(source, 0.0)
    np.testing.assert_array_equal(made.data, before)
    assert made.meta["ChpnetMethod"] == "passed on"
    assert made.meta["ChpnetFallback"] == "no model for it"
    assert "SequenceDescriptionAdditional" not in made.meta
    (arrayed,) = doing.take(array(), 0.0)
    np.testing.assert_array_equal(arrayed.data, array().data)
    assert ismrmrd.Meta.deserialize(arrayed.meta[0].decode())["ChpnetMethod"] == "passed on"
    assert caplog.messages == ["images are passed on unchanged: no model for it"]
    with pytest.raises(ModelError, match="no model for it"):
        handler(None, on_error="error")


def test_phase_images_and_everything_else_go_on(engine: Engine) -> None:
    doing = handler(engine)
    phase = image("float32", image_type=ismrmrd.IMTYPE_PHASE)
    (made,) = doing.take(phase, 0.0)
    assert made.data.shape == (1, 1, 24, 32)
    assert "no magnitude" in made.meta["ChpnetFallback"]
    other = ismrmrd.Acquisition()
    assert list(doing.take(other, 0.0)) == [other]


def test_colours_and_maps_are_not_changed(engine: Engine) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 1, 24, 32)).astype(np.uint16)
    coloured = ismrmrd.Image.from_array(colours, transpose=False, image_type=6)
    mapped = image("float32")
    mapped.meta = {"DataRole": ["Image", "Quantitative", "T1"]}
    for source, word in ((coloured, "colour"), (mapped, "quantitative")):
        before = source.data.copy()
        (made,) = handler(engine).take(source, 0.0)
        np.testing.assert_array_equal(made.data, before)
        assert word in made.meta["ChpnetFallback"]


@pytest.mark.parametrize("shape", [(1, 1, 0, 16), (1, 1, 16, 0), (0, 1, 16, 16), (1, 0, 16, 16)])
def test_images_without_pixels_go_on_and_say_so(
    engine: Engine, shape: tuple[int, int, int, int]
) -> None:
    doing = handler(engine)
    (made,) = doing.take(ismrmrd.Image.from_array(np.zeros(shape, "f4"), transpose=False), 0.0)
    assert made.data.shape == shape
    assert made.meta["ChpnetMethod"] == "passed on"
    assert "without pixels" in made.meta["ChpnetFallback"]
    empty = array()
    empty.data = empty.data[:, :0]
    (arrayed,) = doing.take(empty, 0.0)
    assert arrayed.data.size == 0
    assert "without pixels" in ismrmrd.Meta.deserialize(arrayed.meta[0].decode())["ChpnetFallback"]


def test_failures_as_on_error_says_and_the_original_beside(engine: Engine) -> None:
    def broken(problem: Any) -> Any:
        raise EngineError("no such kernel")

    faulty = FaultyEngine(engine, broken)
    with pytest.raises(ReconstructionError, match="no such kernel"):
        list(handler(faulty, on_error="error").take(image(), 0.0))
    doing = handler(faulty, send_baseline=True, baseline_series=7)
    made, original = doing.take(image(), 0.0)
    assert made.meta["ChpnetFallback"] == "engine failed: no such kernel"
    assert made.meta["ChpnetMethod"] == "interpolated x2"
    assert original.image_series_index == 7
    assert original.data.shape == (1, 1, 24, 32)
    assert "ChpnetMethod" not in original.meta
    assert doing.metrics.fallbacks == {"engine failed": 1}


def test_a_network_that_failed_is_not_asked_again_if_told_so(engine: Engine) -> None:
    def broken(problem: Any) -> Any:
        raise EngineError("no such kernel")

    faulty = FaultyEngine(engine, broken)
    doing = handler(faulty, on_error="baseline-only")
    for _ in range(3):
        (made,) = doing.take(image(), 0.0)
        assert made.meta["ChpnetFallback"] == "engine failed: no such kernel"
    assert faulty.runs == 1


@pytest.mark.parametrize("on_error", ["error", "baseline-only"])
@pytest.mark.parametrize("value", [0, np.nan])
def test_images_without_anything_in_them_are_no_failure_of_the_network(
    engine: Engine, on_error: str, value: float
) -> None:
    doing = handler(engine, on_error=on_error)
    nothing = image()
    nothing.data[...] = value
    (made,) = doing.take(nothing, 0.0)
    assert made.meta["ChpnetFallback"].startswith("the image that came ")
    (made,) = doing.take(image(), 0.0)
    assert "ChpnetFallback" not in made.meta
    assert doing.metrics.methods == {"interpolated": 1, "superres": 1}
