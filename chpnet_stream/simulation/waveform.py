"""An ECG-like waveform beside a simulated scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

ECG_ID = 0
SAMPLE_MS = 2.5  # one tick of the scanner's clock
RR_MS = 900.0

_SAMPLES = 40
_BASELINE = 2048
# Waves P, Q, R, S, T: time after the R wave (ms), width (ms), height; sums of Gaussians as in
# McSharry et al., IEEE Trans Biomed Eng 2003;50:289.
_WAVES = (
    (-190.0, 28.0, 110.0),
    (-35.0, 10.0, -90.0),
    (0.0, 12.0, 1000.0),
    (32.0, 11.0, -170.0),
    (260.0, 45.0, 240.0),
)
_LEADS = (1.0, 0.7, -0.4, 0.5)


def since_r_wave(time_ms: float) -> float:
    """Time since the last R wave, in ms."""
    return time_ms % RR_MS


def ecg_waveforms(first_tick: int, duration_ms: float, measurement_uid: int) -> Iterator[Any]:
    """ISMRMRD waveforms that cover a scan: four leads and a trigger channel, 100 ms each.

    Args:
        first_tick: Time stamp of the start of the scan.
        duration_ms: Length of the scan.
        measurement_uid: As in the acquisitions.

    Yields:
        `ismrmrd.Waveform`, uint32 `channels samples`.
    """
    import ismrmrd

    for counter in range(int(duration_ms / (SAMPLE_MS * _SAMPLES)) + 1):
        begin = counter * _SAMPLES
        time = (begin + np.arange(_SAMPLES)) * SAMPLE_MS
        waveform = ismrmrd.Waveform.from_array(_ecg(time))
        waveform.waveform_id = ECG_ID
        waveform.scan_counter = counter
        waveform.time_stamp = first_tick + begin
        waveform.sample_time_us = SAMPLE_MS * 1000
        waveform.measurement_uid = measurement_uid
        yield waveform


def _ecg(time_ms: NDArray[np.floating[Any]]) -> NDArray[np.uint32]:
    beat = (time_ms + RR_MS / 2) % RR_MS - RR_MS / 2
    trace = sum(height * np.exp(-0.5 * ((beat - at) / width) ** 2) for at, width, height in _WAVES)
    trigger = np.abs(beat) < SAMPLE_MS / 2
    channels = [_BASELINE + lead * trace for lead in _LEADS] + [trigger * 1.0]
    return np.round(np.stack(channels)).astype(np.uint32)
