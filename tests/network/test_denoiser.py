import pytest
import torch

from chpnet_stream.network.denoiser import Denoiser, SubPixelUp

SIZES = [(8, 8), (16, 24), (13, 9), (1, 7), (33, 40)]


def make(**changes) -> Denoiser:
    options = {"inputs": 3, "outputs": 2, "widths": (4, 6, 8)} | changes
    return Denoiser(options.pop("inputs"), options.pop("outputs"), options.pop("widths"), **options)


@pytest.mark.parametrize("unshuffle", [1, 2])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_any_matrix_goes_in_and_comes_out(size, state, unshuffle):
    denoiser = make(unshuffle=unshuffle, state=state)
    x = torch.randn(2, 3, *size)
    image, features = denoiser(x)
    assert image.shape == (2, 2, *size)
    again, _ = denoiser(x, features if state else None)
    assert again.shape == image.shape
    assert torch.equal(again, image) != state  # the state matters where there is one


@pytest.mark.parametrize("scale", [1e-4, 0.3, 7.0, 1e5])
def test_scaling_goes_through(scale):
    denoiser = make(unshuffle=2).double()
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(denoiser(scale * x)[0], scale * denoiser(x)[0], rtol=1e-10, atol=0)
    # and it is not just linear
    assert not torch.allclose(denoiser(-x)[0], -denoiser(x)[0], rtol=1e-3)


def test_entries_of_a_batch_are_independent():
    denoiser = make(unshuffle=2).double()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    for i in range(3):
        torch.testing.assert_close(denoiser(x[i : i + 1])[0], denoiser(x)[0][i : i + 1])


def test_zero_stays_zero():
    image, features = make()(torch.zeros(1, 3, 8, 8))
    assert not image.any()
    assert not features.any()


def test_sub_pixel_up_doubles_without_a_checkerboard():
    """At first, all four sub-pixels of a pixel are equal."""
    up = SubPixelUp(3, 5)
    image = up(torch.randn(1, 3, 6, 7))
    assert image.shape == (1, 5, 12, 14)
    blocks = image.unflatten(-1, (7, 2)).unflatten(-3, (6, 2))
    torch.testing.assert_close(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))


def test_no_transposed_convolutions_and_no_biases():
    denoiser = make(unshuffle=2, state=True)
    assert not any(isinstance(m, torch.nn.ConvTranspose2d) for m in denoiser.modules())
    assert not any(name.endswith("bias") for name, _ in denoiser.named_parameters())
    assert denoiser.multiple == 8
