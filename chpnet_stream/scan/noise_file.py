"""Noise covariances of MRD v2, which are streams of their own."""

from __future__ import annotations

from pathlib import Path

from chpnet_stream.errors import NotAnMrdFileError
from chpnet_stream.mrd.v2.package import require_mrd
from chpnet_stream.scan.noise import NoiseScan


def read_noise(path: Path) -> NoiseScan:
    """The noise covariance in a file of the protocol `MrdNoiseCovariance`.

    Raises:
        ConfigurationError: mrd-python is not installed.
        NotAnMrdFileError: The file holds something else, or can't be read.
        InconsistentScanError: The matrix is no covariance.
    """
    mrd = require_mrd()
    try:
        with path.open("rb") as file, mrd.BinaryMrdNoiseCovarianceReader(file) as reader:
            found = reader.read_noise_covariance()
    except Exception as error:
        raise NotAnMrdFileError(
            f"{path} can't be read ({type(error).__name__}: {error}), expected a noise covariance "
            "of MRD v2 (protocol MrdNoiseCovariance)"
        ) from error
    return NoiseScan.of_covariance(
        found.matrix,
        samples=int(found.sample_count),
        dwell_time_us=float(found.noise_dwell_time_us),
        noise_bandwidth=float(found.receiver_noise_bandwidth),
    )
