import numpy as np
import pytest
import torch

from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import InputError
from chpnet_stream.network.weights import find_model
from chpnet_training.bart import write_cfl
from chpnet_training.tuning import ACCELERATIONS, NOISE_LEVELS, read_complex_image, tune


def picture(rows: int = 67, columns: int = 70) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    inside = (y**2 + x**2 < 0.8) * (1 + 0.5 * (np.abs(x) < 0.2))
    return (inside * np.exp(1j * (x + y))).astype(np.complex64)


def test_images_are_read_from_both_kinds_of_file(tmp_path):
    image = picture()
    write_cfl(tmp_path / "image", image)
    np.save(tmp_path / "image.npy", image)
    for name in ("image.cfl", "image.npy"):
        assert torch.equal(read_complex_image(tmp_path / name), torch.from_numpy(image))


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((2, 4, 4), np.complex64)])
def test_what_is_no_complex_image_is_refused(tmp_path, array):
    np.save(tmp_path / "wrong.npy", array)
    with pytest.raises(InputError, match="two axes"):
        read_complex_image(tmp_path / "wrong.npy")
    with pytest.raises(InputError, match="expected a complex image"):
        read_complex_image(tmp_path / "none.npy")


def test_factors_are_scored_on_the_same_scans(tiny_model):
    model = find_model(tiny_model("chpnet-rt", "kspace"))
    engine = PyTorchEngine(model, torch.device("cpu"))
    seen = []
    scores = tune(
        engine,
        torch.from_numpy(picture()),
        (0.5, 0.5, 4.0),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [s.factor for s in scores] == [0.5, 0.5, 4.0]
    assert scores[0].psnr > 15
    assert scores[0].psnr != scores[2].psnr
    assert seen[-1] == (len(ACCELERATIONS) * len(NOISE_LEVELS),) * 2
