"""What Gadgetron's own gadgets do to acquisitions before ours gets them, written again in NumPy.

RemoveROOversampling, NoiseAdjust, AcquisitionAccumulateTrigger and BucketToBuffer of Gadgetron 4.7,
as far as Cartesian scans need them.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import ismrmrd
import numpy as np

from chpnet_stream.mrd.header import Encoding
from chpnet_stream.mrd.wire.bucket import Bucket, statistics
from chpnet_stream.mrd.wire.recon_data import (
    ReconBit,
    ReconBuffer,
    ReconData,
    SamplingDescription,
)
from tests.scan.building import cropped


def without_oversampling(acquisitions: Iterable[Any], encoding: Encoding) -> Iterator[Any]:
    """RemoveROOversampling: the field of view cut to that of reconSpace."""
    for acquisition in acquisitions:
        size = encoding.recon.matrix[0]
        if acquisition.isFlagSet(19) or acquisition.number_of_samples <= size:
            yield acquisition
            continue
        head = acquisition.getHead()
        head.number_of_samples = size
        head.center_sample = size // 2
        yield ismrmrd.Acquisition(head, cropped(acquisition.data, size).astype(np.complex64))


def whitened(acquisitions: Iterable[Any], bandwidth: float) -> Iterator[Any]:
    """NoiseAdjust: unit variance in the real and in the imaginary part; takes the noise out."""
    matrix = None
    for acquisition in acquisitions:
        if acquisition.isFlagSet(19):
            noise = acquisition.data.astype(np.complex128)
            covariance = noise @ noise.conj().T / (noise.shape[1] - 1)
            dwell = acquisition.sample_time_us
            matrix = np.linalg.inv(np.linalg.cholesky(covariance))
            continue
        assert matrix is not None
        scale = np.sqrt(2 * acquisition.sample_time_us * bandwidth / dwell)
        yield ismrmrd.Acquisition(
            acquisition.getHead(), (scale * matrix @ acquisition.data).astype(np.complex64)
        )


def buckets(items: Iterable[Any], trigger: str = "slice") -> Iterator[Bucket]:
    """AcquisitionAccumulateTrigger: a bucket whenever the counter `trigger` changes."""
    data: list[Any] = []
    reference: list[Any] = []
    waveforms: list[Any] = []
    before = None

    def made() -> Bucket:
        return Bucket(
            list(data),
            list(reference),
            list(waveforms),
            statistics(data),
            statistics(reference),
        )

    for item in items:
        if isinstance(item, ismrmrd.Waveform):
            waveforms.append(item)
            continue
        if item.isFlagSet(19):
            continue
        now = getattr(item.idx, trigger)
        if before is not None and now != before:
            yield made()
            for group in (data, reference, waveforms):
                group.clear()
        before = now
        if item.isFlagSet(20) or item.isFlagSet(21):
            reference.append(item)
        if not item.isFlagSet(20):
            data.append(item)
    yield made()


def buffers(bucket: Bucket, encoding: Encoding) -> Iterator[ReconData]:
    """BucketToBuffer: an array for every combination of counters (N and S of size one)."""
    keys = sorted({_key(a) for a in bucket.data})
    for key in keys:
        parts = [[a for a in g if _key(a) == key] for g in (bucket.data, bucket.reference)]
        data, reference = (_buffer(p, encoding) if p else None for p in parts)
        assert data is not None
        yield ReconData([ReconBit(data, reference)])


def _key(acquisition: Any) -> tuple[int, ...]:
    idx = acquisition.idx
    return idx.average, idx.slice, idx.contrast, idx.phase, idx.repetition, idx.set


def _buffer(acquisitions: list[Any], encoding: Encoding) -> ReconBuffer:
    coils, samples = acquisitions[0].data.shape
    _, rows, planes = encoding.encoded.matrix
    data = np.zeros((samples, rows, planes, coils, 1, 1, 1), np.complex64, order="F")
    headers = np.empty((rows, planes, 1, 1, 1), object)
    for index in np.ndindex(*headers.shape):
        headers[index] = ismrmrd.AcquisitionHeader()
    for acquisition in acquisitions:
        e1 = acquisition.idx.kspace_encode_step_1
        e1 += rows // 2 - encoding.limit("kspace_encoding_step_1").center
        e2 = acquisition.idx.kspace_encode_step_2
        if planes > 1:
            e2 += planes // 2 - encoding.limit("kspace_encoding_step_2").center
        kept = slice(acquisition.discard_pre, samples - acquisition.discard_post)
        data[kept, e1, e2, :, 0, 0, 0] = acquisition.data[:, kept].T
        headers[e1, e2, 0, 0, 0] = copy.copy(acquisition.getHead())
    sampling = SamplingDescription()
    sampling.limits[0].center = samples // 2
    sampling.limits[0].maximum = samples - 1
    return ReconBuffer(data, None, None, headers, sampling)
