import pytest
import torch

from chpnet_training.swin import SwinBlock, WindowAttention


def make(window=4, shift=0, width=6, heads=2) -> WindowAttention:
    """Attention in float64 with a strong bias by position."""
    attention = WindowAttention(width, heads, window, shift).double()
    with torch.no_grad():
        attention.bias.normal_(std=1.0)
        attention.qkv.weight.normal_(std=0.5)
    return attention


def image(rows=8, columns=12, batch=2, width=6) -> torch.Tensor:
    return torch.randn(batch, rows, columns, width, dtype=torch.float64)


def visible(size: int, window: int, shift: int) -> torch.Tensor:
    """Which places of an axis see each other, from their true distance: `size size`.

    Windows begin at `shift`; what is before the first and after the last one are two windows of
    their own, each smaller than a whole one.
    """
    place = torch.arange(size)
    number = (place - shift).div(window, rounding_mode="floor")  # -1 before the first
    return number[:, None] == number[None, :]


def dense(attention: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """The same by one big softmax over all places of one image `y x width`."""
    rows, columns, width = x.shape
    w, heads = attention.window, attention.heads
    y, x_ = (
        p.flatten()
        for p in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    )
    sees = visible(rows, w, attention.shift)[y[:, None], y[None, :]]
    sees &= visible(columns, w, attention.shift)[x_[:, None], x_[None, :]]
    table = attention.bias.view(2 * w - 1, 2 * w - 1, heads)
    dy, dx = ((p[:, None] - p[None, :]).clamp(1 - w, w - 1) + w - 1 for p in (y, x_))
    tokens = x.reshape(-1, width)
    parts = tokens @ attention.qkv.weight.T + attention.qkv.bias
    outs = []
    for head in range(heads):
        d = width // heads
        q, k, v = (parts[:, i * width + head * d :][:, :d] for i in range(3))
        scores = q @ k.T / d**0.5 + table[dy, dx, head]
        outs.append(scores.masked_fill(~sees, -torch.inf).softmax(dim=1) @ v)
    out = torch.cat(outs, dim=1) @ attention.out.weight.T + attention.out.bias
    return out.view(rows, columns, width)


@pytest.mark.parametrize("shift", [0, 2, 1])
@pytest.mark.parametrize("matrix", [(8, 12), (4, 8), (4, 4)])
def test_windows_are_dense_attention_with_a_mask(matrix, shift):
    attention = make(shift=shift)
    x = image(*matrix)
    expected = torch.stack([dense(attention, one) for one in x])
    torch.testing.assert_close(attention(x), expected)


def test_the_seam_separates():
    """Moved windows at the rim of the matrix hold tokens of both ends, which stay strangers."""
    attention = make(shift=2)
    x = image(8, 8, batch=1)
    changed = x.clone()
    changed[:, 0] += 5.0
    moved = (attention(changed) - attention(x)).abs().amax(dim=(0, 2, 3))
    assert (moved[:2] > 1e-3).all()
    assert (moved[2:] == 0).all()


def test_moved_windows_see_over_the_border_of_those_that_are_not():
    x = image(8, 8, batch=1)
    changed = x.clone()
    changed[:, 3] += 5.0
    for shift, rows in ((0, range(4)), (2, range(2, 6))):
        attention = make(shift=shift)
        moved = (attention(changed) - attention(x)).abs().amax(dim=(0, 2, 3))
        assert [n for n in range(8) if moved[n] > 1e-6] == list(rows)


def test_whole_windows_can_be_moved():
    attention, x = make(), image()
    torch.testing.assert_close(attention(x.roll((4, 8), (1, 2))), attention(x).roll((4, 8), (1, 2)))
    assert not torch.allclose(attention(x.roll(1, 1)), attention(x).roll(1, 1))


def test_without_a_bias_the_order_in_a_window_does_not_matter():
    attention, x = make(window=3), image(3, 3, batch=1)
    order = torch.randperm(9)

    def mixed(v: torch.Tensor) -> torch.Tensor:
        return v.flatten(1, 2)[:, order].unflatten(1, (3, 3))

    assert not torch.allclose(attention(mixed(x)), mixed(attention(x)))
    with torch.no_grad():
        attention.bias.zero_()
    torch.testing.assert_close(attention(mixed(x)), mixed(attention(x)))


@pytest.mark.parametrize("shift", [0, 2])
def test_a_batch_is_its_images(shift):
    attention, x = make(shift=shift), image(batch=3)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(attention(x[order]), attention(x)[order])


def test_matrices_can_change_between_calls():
    attention = make(shift=2)
    for matrix in ((8, 8), (12, 4), (8, 8)):
        x = image(*matrix)
        torch.testing.assert_close(attention(x)[0], dense(attention, x[0]))


@pytest.mark.parametrize("shift", [0, 1])
def test_gradients(shift):
    block = SwinBlock(4, 2, 2, shift, 1.5).double()
    x = image(4, 2, batch=1, width=4).requires_grad_()
    gate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x, gate))


def test_every_parameter_learns():
    block = SwinBlock(6, 2, 4, 2, 2.0).double()
    block(image(), torch.ones((), dtype=torch.float64)).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_the_gate_scales_what_a_block_adds():
    block, x = SwinBlock(6, 2, 4, 0, 2.0).double(), image()
    assert torch.equal(block(x, torch.zeros(())), x)
    little, whole = (block(x, torch.tensor(g)) - x for g in (1e-4, 1.0))
    assert float(whole.norm()) > 100 * float(little.norm()) > 0
