import math

import numpy as np
import pytest
import torch

from chpnet_stream.physics.sampling import (
    acceleration_of,
    calibration_range,
    equispaced_mask,
    partial_fourier_mask,
    random_mask,
)


@pytest.mark.parametrize(
    ("lines", "width", "expected"),
    [(16, 4, range(6, 10)), (15, 4, range(5, 9)), (15, 5, range(5, 10)), (8, 20, range(0, 8))],
)
def test_calibration_is_around_the_centre(lines, width, expected):
    assert calibration_range(lines, width) == expected
    assert lines // 2 in expected


@pytest.mark.parametrize("offset", [0, 1, 2, 5])
def test_equispaced_lines(offset):
    mask = equispaced_mask(20, 3, offset=offset)
    assert torch.nonzero(mask).flatten().tolist() == list(range(offset % 3, 20, 3))


def test_calibration_is_added_to_the_lines():
    mask = equispaced_mask(64, 4, 10)
    assert mask[27:37].all()
    assert mask[::4].all()
    assert int(mask.sum()) == 16 + 10 - 3  # lines 28, 32 and 36 are both


@pytest.mark.parametrize("acceleration", [2.0, 3.5, 6.0])
def test_random_lines_are_as_many_as_asked_for(acceleration):
    mask = random_mask(120, acceleration, 12, np.random.default_rng(1))
    assert int(mask.sum()) == round(120 / acceleration)
    assert mask[54:66].all()
    again = random_mask(120, acceleration, 12, np.random.default_rng(1))
    other = random_mask(120, acceleration, 12, np.random.default_rng(2))
    assert torch.equal(mask, again)
    assert not torch.equal(mask, other)


def test_random_mask_with_more_calibration_than_lines_keeps_the_calibration():
    mask = random_mask(40, 8, 16, np.random.default_rng(0))
    assert torch.nonzero(mask).flatten().tolist() == list(range(12, 28))


@pytest.mark.parametrize("early", [True, False])
def test_partial_fourier_keeps_one_side(early):
    mask = partial_fourier_mask(16, 0.75, early=early)
    assert torch.nonzero(mask).flatten().tolist() == list(range(4, 16) if early else range(12))
    assert partial_fourier_mask(16, 1.0, early=early).all()


@pytest.mark.parametrize("fraction", [0.5, 0.0, 1.1])
def test_partial_fourier_needs_more_than_half(fraction):
    with pytest.raises(ValueError, match=f"found {fraction}"):
        partial_fourier_mask(16, fraction)


def test_net_acceleration_counts_the_measured_range():
    assert acceleration_of(torch.ones(32)) == 1
    assert acceleration_of(equispaced_mask(32, 4)) == pytest.approx(29 / 8)
    partial = equispaced_mask(32, 2) & partial_fourier_mask(32, 0.75)
    assert acceleration_of(partial) == pytest.approx(23 / 12)
    assert math.isnan(acceleration_of(torch.zeros(8)))
