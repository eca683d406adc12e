"""Tissues of the head phantom and what they look like in a T1- and a T2-weighted scan."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Weighting = Literal["t1", "t2"]


class Tissue(IntEnum):
    """Labels of the phantom; the value is the row in the table of relaxation times."""

    AIR = 0
    SKIN = 1
    FAT = 2
    BONE = 3
    MARROW = 4
    CSF = 5
    GREY = 6
    WHITE = 7
    DEEP_GREY = 8
    CHOROID = 9
    LESION = 10
    TUMOUR = 11
    DURA = 12
    VESSEL = 13
    MUSCLE = 14
    LENS = 15


# Proton density, T1 and T2 in ms. White and grey matter and muscle at 3 T: Stanisz et al., Magn
# Reson Med 2005;54:507. The others are round numbers that put the tissues in the usual order of
# brightness; no claim rests on them. Vessels are flow voids.
_RELAXATION = {
    Tissue.AIR: (0.0, 1000.0, 100.0),
    Tissue.SKIN: (0.55, 900.0, 60.0),
    Tissue.FAT: (0.42, 400.0, 130.0),
    Tissue.BONE: (0.06, 300.0, 20.0),
    Tissue.MARROW: (0.35, 450.0, 100.0),
    Tissue.CSF: (1.00, 4000.0, 1500.0),
    Tissue.GREY: (0.84, 1820.0, 99.0),
    Tissue.WHITE: (0.70, 1084.0, 69.0),
    Tissue.DEEP_GREY: (0.80, 1450.0, 80.0),
    Tissue.CHOROID: (0.90, 1300.0, 140.0),
    Tissue.LESION: (0.86, 1900.0, 180.0),
    Tissue.TUMOUR: (0.80, 700.0, 110.0),
    Tissue.DURA: (0.40, 900.0, 40.0),
    Tissue.VESSEL: (0.05, 1900.0, 50.0),
    Tissue.MUSCLE: (0.75, 1412.0, 50.0),
    Tissue.LENS: (0.60, 1500.0, 35.0),
}

# Repetition, inversion (T1w only) and first echo time in ms.
TIMING = {"t1": (2300.0, 1100.0, 4.0), "t2": (5000.0, 0.0, 95.0)}


def tissue_signals(weighting: Weighting, echo_time_ms: float | None = None) -> NDArray[np.float32]:
    """Signal of every tissue: inversion recovery for `t1`, spin echo for `t2`.

    ``PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)`` and ``PD (1 - exp(-TR/T1)) exp(-TE/T2)``
    (Bernstein, King, Zhou, Handbook of MRI Pulse Sequences, sections 14.2 and 14.3).

    Args:
        weighting: `t1` or `t2`.
        echo_time_ms: Echo time; by default the first one in `TIMING`.

    Returns:
        Signal by label, float32, between 0 and 1.
    """
    density, t1, t2 = np.array([_RELAXATION[tissue] for tissue in Tissue]).T
    repetition, inversion, first_echo = TIMING[weighting]
    echo = first_echo if echo_time_ms is None else echo_time_ms
    if weighting == "t1":
        recovery = np.abs(1 - 2 * np.exp(-inversion / t1) + np.exp(-repetition / t1))
    else:
        recovery = 1 - np.exp(-repetition / t1)
    return (density * recovery * np.exp(-echo / t2)).astype(np.float32)
