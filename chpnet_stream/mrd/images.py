"""Images on their way out: geometry, header and meta, in the one place that knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chpnet_stream.mrd import flags
from chpnet_stream.mrd.gadgetron_meta import gadgetron_meta
from chpnet_stream.mrd.header import Encoding, ScanHeader

IMAGE_TYPES = {"magnitude": 1, "phase": 2, "real": 3, "imag": 4, "complex": 5}
"""Numbers of image_type in the standard."""

IMAGE_AXES = ((-1, 0), (-2, 1))
"""Axes of an image `... y x`, and of the matrices in the header (0 x, 1 y)."""

NARROWEST_WINDOW = 16
"""A display window below this can't be told in whole numbers, and is left out of the meta."""


@dataclass(frozen=True)
class ImageOrientation:
    """How pixels are laid out against the k-space axes: the one place for flips.

    By default no flip: `image[y, x]` is the inverse FFT of `kspace[ky, kx]`, x grows along the
    acquisition's read_dir, y along its phase_dir, as Gadgetron and ismrmrd_recon_cartesian_2d have
    it. Vendors' own pictures may differ; set the flips to match them. The direction vectors in the
    image header stay the acquisition's; a flip is told in the meta (ImageRowDir, ImageColumnDir).

    Attributes:
        flip_rows: reverse the order of rows (y).
        flip_columns: reverse the order of columns (x).
    """

    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The image, `... y x`, with the flips done, contiguous in memory."""
        if self.flip_rows:
            image = image[..., ::-1, :]
        if self.flip_columns:
            image = image[..., ::-1]
        return np.ascontiguousarray(image)

    def directions(self, head: Any) -> dict[str, list[float]]:
        """Directions of rows (along x), columns (along y) and slices of the pixels as stored."""
        sign_x = -1.0 if self.flip_columns else 1.0
        sign_y = -1.0 if self.flip_rows else 1.0
        return {
            "ImageRowDir": [sign_x * v for v in head.read_dir],
            "ImageColumnDir": [sign_y * v for v in head.phase_dir],
            "ImageSliceDir": [float(v) for v in head.slice_dir],
        }


def crop_to_recon(image: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Cut an image, `... y x`, from the encoded to the reconstructed field of view, centred.

    Pixel n // 2 of the encoded axis becomes pixel m // 2. The pixel size stays; axes that were cut
    already (oversampling removal) are left alone.
    """
    for axis, matrix_axis in IMAGE_AXES:
        size = min(encoding.cropped(matrix_axis), image.shape[axis])
        start = image.shape[axis] // 2 - size // 2
        window = [slice(None)] * image.ndim
        window[axis] = slice(start, start + size)
        image = image[tuple(window)]
    return image


@dataclass(frozen=True)
class ImageCounters:
    """What numbers an image within the scan.

    Attributes:
        index: running number of the image, from 1; wraps at 65535 (1 follows) in the header, the
            full number is in the meta as GADGETRON_ImageNumber.
        series: image_series_index.
        partition: partition of a 3-D slab, else 0.
        last_in_measurement: the last image of the scan; sets flag 25.
    """

    index: int = 1
    series: int = 1
    partition: int = 0
    last_in_measurement: bool = False


def image_from_slice(
    image: np.ndarray,
    head: Any,
    header: ScanHeader,
    counters: ImageCounters | None = None,
    *,
    encoding: Encoding | None = None,
    image_type: str = "magnitude",
    slice_counters: Mapping[str, int] | None = None,
    edges: int | None = None,
    time_stamps: tuple[int, int] | None = None,
    window: tuple[float, float] | None = None,
    orientation: ImageOrientation | None = None,
    description: str = "chpnet",
    history: tuple[str, ...] = ("chpnet-stream",),
    comments: tuple[str, ...] = (),
    meta: Mapping[str, Any] | None = None,
) -> Any:
    """Build an `ismrmrd.Image` with a complete header and meta.

    Args:
        image: `y x`, real (stored as float32) or complex (stored as complex64).
        head: header of the acquisition nearest the k-space centre (`Slice.head`): position,
            directions, table position, counters, time stamps and user fields are taken from it.
        header: the scan's header.
        counters: image number, series, partition.
        encoding: the encoding that the image belongs to; by default the one `head` names.
        image_type: magnitude, phase, real, imag or complex.
        slice_counters: counters that replace those of `head` (`Slice.counters`).
        edges: first and last flags for the image (`Slice.edges`); by default those of `head`.
        time_stamps: smallest and largest acquisition_time_stamp; by default that of `head`.
        window: display window, centre and width in units of the pixels, from the whole volume.
        orientation: flips to apply.
        description: what the name of the series gets appended.
        history: steps for ImageProcessingHistory.
        comments: ImageComments.
        meta: ours: model, checksum, engine, residual, fallback reason, latency; None is left out.

    Returns:
        An `ismrmrd.Image` with data `1 1 y x`.

    Raises:
        ValueError: not two axes, or an unknown image type.
    """
    import ismrmrd

    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}, expected two axes `y x`")
    if image_type not in IMAGE_TYPES:
        raise ValueError(f"image type '{image_type}', expected one of {', '.join(IMAGE_TYPES)}")
    counters = counters or ImageCounters()
    orientation = orientation or ImageOrientation()
    encoding = encoding or header.encodings[min(head.encoding_space_ref, len(header.encodings) - 1)]
    kind = np.complex64 if np.iscomplexobj(image) else np.float32
    pixels = orientation.apply(image.astype(kind, copy=False))

    out = ismrmrd.Image.from_array(pixels, transpose=False)
    _fill_from_acquisition(out, head, slice_counters or {})
    fov, partitions = _field_of_view(encoding, pixels.shape)
    out.field_of_view = fov
    if partitions > 1:
        # Each partition is an image of its own: number and position count along the slab.
        out.slice = out.slice * partitions + counters.partition
        shift = (counters.partition - partitions // 2) * fov[2]
        out.position = tuple(
            p + shift * d for p, d in zip(head.position, head.slice_dir, strict=True)
        )
    out.image_type = IMAGE_TYPES[image_type]
    out.image_index = (counters.index - 1) % 65535 + 1
    out.image_series_index = counters.series
    mask = int(head.flags) if edges is None else edges
    out.flags = mask & flags.IMAGE_EDGES
    if counters.last_in_measurement:
        out.flags |= flags.LAST_IN_MEASUREMENT
    out.meta = _meta(
        header, encoding, head, counters, window, orientation, description, history, comments
    )
    stamps = time_stamps or (int(head.acquisition_time_stamp),) * 2
    more = gadgetron_meta(header, encoding, out, stamps)
    for name, value in (*more.items(), *(meta or {}).items()):
        if value is not None:
            out.meta[name] = (
                [_clean(v) for v in value] if isinstance(value, list | tuple) else _clean(value)
            )
    return out


def _fill_from_acquisition(out: Any, head: Any, counters: Mapping[str, int]) -> None:
    for name in ("version", "measurement_uid", "acquisition_time_stamp"):
        setattr(out, name, getattr(head, name))
    for name in (
        "position",
        "read_dir",
        "phase_dir",
        "slice_dir",
        "patient_table_position",
        "physiology_time_stamp",
        "user_int",
        "user_float",
    ):
        setattr(out, name, tuple(getattr(head, name)))
    for name in ("average", "slice", "contrast", "phase", "repetition", "set"):
        setattr(out, name, counters.get(name, getattr(head.idx, name)))


def _field_of_view(
    encoding: Encoding, shape: tuple[int, ...]
) -> tuple[tuple[float, float, float], int]:
    """Field of view (x, y, z) in mm of one image, and the number of partitions it is one of.

    That of reconSpace; where an image is wider than that (not cropped), or reconSpace larger than
    what was encoded (nothing is padded here), its pixels times their size. A partition has the
    slab's thickness divided by their number.
    """
    view = list(encoding.recon.field_of_view_mm)
    partitions = encoding.cropped(2)
    axes = [(0, shape[1]), (1, shape[0])] + [(2, partitions)] * (partitions > 1)
    for axis, size in axes:
        encoded = encoding.encoded.field_of_view_mm[axis]
        pixel = encoded / encoding.encoded.matrix[axis]
        whole = size == encoding.cropped(axis)
        larger = 0 < encoded < view[axis] - pixel / 2
        finer, step = encoding.enlarged(axis)
        if step < 1 and size == finer:
            view[axis] = size * pixel * step
        elif (whole and larger) or (not whole and size != encoding.recon.matrix[axis]):
            view[axis] = size * pixel
    return (view[0], view[1], view[2] / partitions), partitions


def _meta(
    header: ScanHeader,
    encoding: Encoding,
    head: Any,
    counters: ImageCounters,
    window: tuple[float, float] | None,
    orientation: ImageOrientation,
    description: str,
    history: tuple[str, ...],
    comments: tuple[str, ...],
) -> Any:
    """Meta in the standard's names, with Gadgetron's spellings beside them."""
    import ismrmrd

    protocol = header.protocol or "unknown"
    values: dict[str, Any] = {
        "DataRole": "Image",
        "ImageProcessingHistory": list(history),
        **_series_names(header.protocol, description),
        "Keep_image_geometry": "1",
        **{k: [f"{v:.8g}" for v in d] for k, d in orientation.directions(head).items()},
        "GADGETRON_DataRole": "Image",
        "GADGETRON_ImageProcessingHistory": list(history),
        "GADGETRON_SeqDescription": f"_{description}",
        "GADGETRON_ImageNumber": str(counters.index),
        "encoding": str(encoding.index),
        "encoding_FOV": [f"{v:g}" for v in encoding.encoded.field_of_view_mm],
        "recon_FOV": [f"{v:g}" for v in encoding.recon.field_of_view_mm],
        "encoded_matrix": [str(n) for n in encoding.encoded.matrix],
        "recon_matrix": [str(n) for n in encoding.recon.matrix],
        "protocolName": protocol,
    }
    if comments:
        values["ImageComments"] = list(comments)
        values["GADGETRON_ImageComment"] = list(comments)
    if header.measurement.get("measurementID"):
        values["measurementID"] = header.measurement["measurementID"]
    if header.patient_position:
        values["patient_position"] = header.patient_position
    if window is not None and window[1] >= NARROWEST_WINDOW:
        centre, width = str(round(window[0])), str(round(window[1]))
        values.update(WindowCenter=centre, WindowWidth=width)
        values.update(GADGETRON_WindowCenter=centre, GADGETRON_WindowWidth=width)
    echo = _of_contrast(header.te_ms, head.idx.contrast)
    if echo is not None:
        values["EchoTime"] = f"{echo:g}"
    inversions = {time for time in header.ti_ms if time > 0}
    if len(inversions) == 1:  # of several nobody says which is this image's
        values["InversionTime"] = f"{inversions.pop():g}"
    return ismrmrd.Meta(values)


def _series_names(protocol: str, description: str) -> dict[str, str]:
    """What the series is called.

    SeriesDescription replaces the name that the scanner has for it, SeriesDescriptionAdditional is
    appended to that or to the one before: both together would tell `description` twice. Scanners
    (FIRE, OpenRecon) read SequenceDescriptionAdditional, and append it to the name of the sequence.
    """
    names = {"SequenceDescriptionAdditional": description}
    if protocol:
        return {**names, "SeriesDescription": f"{protocol}_{description}"}
    return {**names, "SeriesDescriptionAdditional": description}


def _of_contrast(values: tuple[float, ...], contrast: int) -> float | None:
    """The value of a contrast; where there is none for it, the one of all, if they have one."""
    if contrast < len(values):
        return values[contrast]
    return values[0] if len(set(values)) == 1 else None


def _clean(value: Any) -> str:
    """Text without the control characters that XML can't hold."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in str(value))
