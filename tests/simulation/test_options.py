from typing import Any

import numpy as np
import pytest

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.simulation.options import SimulationOptions
from tests.helpers import small_options


@pytest.mark.parametrize("lines", [63, 64, 65])
@pytest.mark.parametrize("acceleration", [1, 2, 3, 5])
@pytest.mark.parametrize("partial", [1.0, 0.75, 0.6])
def test_the_centre_is_measured_and_the_distance_is_r(
    lines: int, acceleration: int, partial: float
) -> None:
    options = small_options(
        matrix=(lines, 64), acceleration=acceleration, partial_fourier=partial, calibration_lines=6
    )
    measured = np.flatnonzero(options.sampled_lines)
    assert lines // 2 in measured
    assert set(np.diff(measured)) == {acceleration}
    assert measured[0] >= options.first_line == lines - round(lines * partial)
    assert options.calibrated_lines.sum() == (6 if acceleration > 1 else 0)


def test_slice_order() -> None:
    assert small_options(slices=5).slice_order == [0, 2, 4, 1, 3]
    assert small_options(slices=3, interleaved=False).slice_order == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"slices": 0}, "slices is 0"),
        ({"matrix": (4, 64)}, "matrix"),
        ({"partial_fourier": 0.5}, "partial_fourier"),
        ({"partial_echo": 1.1}, "partial_echo"),
        ({"snr": 0.0}, "snr"),
        ({"acceleration": 65}, "acceleration"),
        ({"calibration_lines": 257}, "calibration_lines"),
        ({"calibration_lines": 140, "partial_fourier": 0.75}, "2 to 128"),
        ({"calibration_mode": "external"}, "calibration_mode"),
        ({"weighting": "t3"}, "weighting"),
        ({"repetitions": 70_000}, "repetitions"),
        ({"gap_mm": -1.0}, "gap_mm"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        SimulationOptions(**changes)
