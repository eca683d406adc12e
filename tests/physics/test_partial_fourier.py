import numpy as np
import pytest
import torch

from chpnet_stream.physics.fourier import fft
from chpnet_stream.physics.partial_fourier import homodyne, pocs
from chpnet_training.bart import run_bart
from tests.physics.cases import complex_noise, phantom, psnr, smooth_phase

SHAPE = (96, 88)


def truth(shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    return phantom(shape, edge=300.0) * smooth_phase(shape)


def kept(samples: int, fraction: float, early: bool) -> range:
    """What is left when the samples at the beginning (early) or at the end are missing."""
    count = round(samples * fraction)
    return range(samples - count, samples) if early else range(count)


def cut(image: torch.Tensor, acquired: range, axis: int) -> torch.Tensor:
    """Zero-filled partial Fourier image, by explicit matrices."""
    n = image.shape[axis]
    index = np.arange(n) - n // 2
    matrix = np.exp(-2j * np.pi * np.outer(index, index) / n) / np.sqrt(n)
    rows = matrix[acquired.start : acquired.stop]
    projection = torch.from_numpy(rows.conj().T @ rows)
    return projection @ image if axis == -2 else image @ projection.mT


def reference_pocs(image: np.ndarray, acquired: range, iterations: int) -> np.ndarray:
    """POCS along the first axis, line by line from its definition."""
    n = image.shape[0]
    index = np.arange(n) - n // 2
    F = np.exp(-2j * np.pi * np.outer(index, index) / n) / np.sqrt(n)
    measured = F @ image
    reach = min(n // 2 - acquired[0], acquired[-1] - n // 2)
    centre = np.zeros_like(measured)
    for k in range(-reach, reach + 1):
        window = (1 + np.cos(np.pi * k / (reach + 1))) / 2
        centre[n // 2 + k] = window * measured[n // 2 + k]
    phase = np.angle(F.conj().T @ centre)
    data = np.zeros_like(measured)
    for line in acquired:
        data[line] = measured[line]
    current = data
    for _ in range(iterations):
        current = F @ (np.abs(F.conj().T @ current) * np.exp(1j * phase))
        for line in acquired:
            current[line] = measured[line]
    return F.conj().T @ current


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("fraction", [5 / 8, 6 / 8])
def test_both_beat_zero_filling(axis, early, fraction):
    image = truth()
    acquired = kept(SHAPE[axis], fraction, early)
    zero_filled = cut(image, acquired, axis)
    before = psnr(zero_filled, image)
    assert psnr(pocs(zero_filled, acquired, axis=axis), image) > before + 15
    assert psnr(homodyne(zero_filled, acquired, axis=axis), image) > before + 3


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("shape", [(64, 48), (63, 49)])
def test_pocs_keeps_measured_samples(axis, early, shape):
    image = complex_noise(*shape)
    acquired = kept(shape[axis], 0.7, early)
    found = pocs(image, acquired, axis=axis, iterations=3)
    where = slice(acquired.start, acquired.stop)
    before, after = (fft(i).movedim(axis, 0) for i in (image, found))
    torch.testing.assert_close(after[where], before[where])
    missing = [line for line in range(shape[axis]) if line not in acquired]
    assert float((after[missing] - before[missing]).abs().max()) > 0.1


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("lines", [40, 41])
@pytest.mark.parametrize("iterations", [0, 1, 8])
def test_pocs_is_its_definition(early, lines, iterations):
    image = truth((lines, 30)) + 0.05 * complex_noise(lines, 30)
    acquired = kept(lines, 0.65, early)
    expected = reference_pocs(image.numpy(), acquired, iterations)
    found = pocs(image, acquired, iterations=iterations)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("method", [pocs, homodyne])
def test_full_sampling_is_the_identity(method):
    image = complex_noise(32, 30)
    assert torch.equal(method(image, range(32)), image)
    assert torch.equal(method(image, range(30), axis=-1), image)


@pytest.mark.parametrize("method", [pocs, homodyne])
def test_what_was_not_measured_is_not_used(method):
    image, acquired = truth(), kept(SHAPE[0], 0.7, True)
    torch.testing.assert_close(method(image, acquired), method(cut(image, acquired, -2), acquired))


@pytest.mark.parametrize("method", [pocs, homodyne])
def test_one_real_object_is_recovered_almost_exactly(method):
    """Without any phase the missing side is the mirror of the measured one."""
    image = phantom(SHAPE, edge=300.0).to(torch.complex128)
    acquired = kept(SHAPE[0], 6 / 8, True)
    zero_filled = cut(image, acquired, -2)
    assert psnr(method(zero_filled, acquired), image) > psnr(zero_filled, image) + 10


@pytest.mark.parametrize("method", [pocs, homodyne])
def test_batches_and_precision(method):
    acquired = kept(SHAPE[0], 0.7, False)
    batch = torch.stack([truth(), 2 * truth().flip(1)])
    together = method(batch, acquired)
    for i in range(2):
        torch.testing.assert_close(together[i], method(batch[i], acquired))
    single = method(batch.to(torch.complex64), acquired)
    assert single.dtype == torch.complex64
    assert float((single - together).abs().max() / together.abs().max()) < 1e-4


def test_two_axes_one_after_the_other():
    image = truth()
    rows, columns = kept(SHAPE[0], 0.75, True), kept(SHAPE[1], 0.75, False)
    zero_filled = cut(cut(image, rows, -2), columns, -1)
    found = pocs(pocs(zero_filled, columns, axis=-1), rows)
    assert psnr(found, image) > psnr(zero_filled, image) + 8


@pytest.mark.parametrize("method", [pocs, homodyne])
def test_too_little_beyond_the_centre_is_refused(method):
    image = complex_noise(32, 30)
    with pytest.raises(ValueError, match="both sides of the centre 16, found 16 to 31"):
        method(image, range(16, 32))
    with pytest.raises(ValueError, match=r"within 0\.\.32, found range\(4, 40\)"):
        method(image, range(4, 40))


@pytest.mark.usefixtures("bart")
@pytest.mark.parametrize("fraction", [5 / 8, 6 / 8])
def test_homodyne_is_as_good_as_that_of_bart(fraction):
    """The ramps and windows differ; the errors that are left must be of the same size."""
    image = truth()
    acquired = kept(SHAPE[0], fraction, False)
    kspace = fft(image).to(torch.complex64).numpy()
    theirs, _ = run_bart(["homodyne", "-C", "1", str(fraction)], [kspace.T[:, :, None, None]])
    reference = psnr(torch.from_numpy(theirs.squeeze().T.copy()), image)
    assert psnr(homodyne(image, acquired), image) > reference - 0.5
    assert psnr(pocs(image, acquired), image) > reference + 5
