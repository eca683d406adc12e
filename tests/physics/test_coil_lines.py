import numpy as np
import pytest
import torch

from chpnet_stream.physics.coil_lines import CoilLines
from chpnet_stream.physics.operators import ColumnSense, SenseOperator
from tests.physics.cases import complex_noise


@pytest.mark.parametrize("shape", [(8, 6), (9, 7), (16, 5), (2, 3)])
@pytest.mark.parametrize("group", [1, 3, 100])
def test_lines_in_any_portions_make_the_adjoint(shape, group):
    lines, columns = shape
    maps = complex_noise(2, *shape, seed=1).to(torch.complex64)
    matrix = complex_noise(2, 3, seed=2).to(torch.complex64)
    kspace = complex_noise(3, *shape, seed=3).to(torch.complex64)
    weights = torch.rand(lines, generator=torch.Generator().manual_seed(0))
    weights[1::3] = 0
    rows = np.random.default_rng(0).permutation(np.flatnonzero(weights.numpy()))
    found = CoilLines(matrix, lines, columns)
    found.put(rows[:1], 0 * kspace[:, rows[:1]].numpy() + 7)  # replaced below
    for first in range(0, len(rows), group):
        part = rows[first : first + group]
        found.put(part, kspace[:, part].numpy())
    mixed = torch.einsum("vc,cyx->vyx", matrix, kspace)
    expected = SenseOperator(maps, weights[:, None]).adjoint(mixed)
    torch.testing.assert_close(found.adjoint(ColumnSense(maps, weights)).mT, expected)
    some = (1, columns - 1) if columns > 2 else (0, columns)
    maps[:, :, : some[0]] = 0  # beside the object: no columns of it are kept
    maps[:, :, some[1] :] = 0
    cut = CoilLines(matrix, lines, columns, seen=some)
    cut.put(rows, kspace[:, rows].numpy())
    expected = SenseOperator(maps, weights[:, None]).adjoint(mixed)
    torch.testing.assert_close(cut.adjoint(ColumnSense(maps, weights)).mT, expected)
    energy = float((mixed.abs().square() * weights[:, None]).sum())
    assert cut.energy(weights.numpy()) == pytest.approx(energy, rel=1e-5)
    assert found.energy(weights.numpy()) == pytest.approx(energy, rel=1e-5)
    for each in (found, cut):
        natural = torch.fft.fftshift(each.data, dim=-1)
        expected = natural.abs().square().sum(dim=(0, 1)).double().numpy()
        np.testing.assert_allclose(each.energies, expected, rtol=1e-5)


def test_other_weights_on_the_same_maps():
    maps = complex_noise(2, 9, 7, seed=1)
    x = complex_noise(9, 7, seed=2)
    ones, weights = torch.ones(9, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    first = ColumnSense(maps, ones)
    second = first.weighted(weights)
    torch.testing.assert_close(second.normal(x), ColumnSense(maps, weights).normal(x))
    torch.testing.assert_close(first.normal(x), ColumnSense(maps, ones).normal(x))
    assert second.maps is first.maps
