"""Image quality: PSNR, SSIM, NMSE and HFEN of magnitude images, and the score on raw k-space.

All functions take real or complex numpy arrays or torch tensors; magnitudes are compared, in
float64. PSNR, SSIM and NMSE are scikit-image's, as in fastMRI (Zbontar et al., arXiv:1811.08839),
which takes the maximum of the volume as data range: give it as ``data_range``. Without one it is
the maximum of the slice, and `score_raw` takes that of the slice's object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from chpnet_stream import similarity
from chpnet_stream.errors import InputError
from chpnet_stream.similarity import WINDOW

if TYPE_CHECKING:
    Array = np.ndarray | torch.Tensor

HFEN_SIDE = 15
HFEN_SIGMA = 1.5


@dataclass(frozen=True)
class Score:
    """Quality of one image.

    Attributes:
        psnr: peak signal-to-noise ratio in dB.
        ssim: structural similarity, at most 1.
        nmse: squared error over squared reference.
        hfen: high-frequency error norm, relative to the reference's.
    """

    psnr: float
    ssim: float
    nmse: float
    hfen: float


def _magnitude(image: Array) -> np.ndarray:
    """Returns the float64 magnitude of an array or tensor."""
    array = image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()
    return np.abs(array).astype(np.float64)


def _pair(estimate: Array, reference: Array) -> tuple[np.ndarray, np.ndarray]:
    """Returns both magnitudes after checking them.

    Raises:
        InputError: if the shapes differ, or the reference is zero.
    """
    one, two = _magnitude(estimate), _magnitude(reference)
    if one.shape != two.shape:
        raise InputError(
            f"estimate of shape {one.shape}, reference of {two.shape}; expected equal shapes."
        )
    if not two.any():
        raise InputError("the reference is zero everywhere; expected an image with signal.")
    return one, two


def psnr(estimate: Array, reference: Array, data_range: float | None = None) -> float:
    """Returns 10 log10(data_range^2 / mean squared error) in dB; inf for equal images.

    Args:
        estimate: `... y x`.
        reference: `... y x`; its maximum is the ``data_range`` where none is given.
        data_range: peak, for a slice of a volume the maximum of the volume.
    """
    one, two = _pair(estimate, reference)
    error = float(np.mean((one - two) ** 2))
    peak = float(two.max()) if data_range is None else data_range
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def nmse(estimate: Array, reference: Array) -> float:
    """Returns sum (estimate - reference)^2 / sum reference^2 over `... y x`."""
    one, two = _pair(estimate, reference)
    return float(np.sum((one - two) ** 2) / np.sum(two**2))


def ssim_map(estimate: np.ndarray, reference: np.ndarray, data_range: float) -> np.ndarray:
    """Returns the structural similarity of each pixel, float64 `y x`.

    `chpnet_stream.similarity.ssim_map`; the 3 pixels next to the border use mirrored samples, as
    in scikit-image.
    """
    edge = WINDOW // 2
    one, two = (
        torch.from_numpy(np.pad(image.astype(np.float64), edge, mode="symmetric"))[None, None]
        for image in (estimate, reference)
    )
    peak = torch.full((1, 1, 1, 1), data_range, dtype=torch.float64)
    found: np.ndarray = similarity.ssim_map(one, two, peak)[0, 0].numpy()
    return found


def ssim(estimate: Array, reference: Array, data_range: float | None = None) -> float:
    """Returns the mean structural similarity of the slices of `y x` or `slices y x` images.

    Averaged over the pixels whose whole window lies inside the image, as fastMRI and
    scikit-image do.

    Raises:
        InputError: if the images are smaller than the window.
    """
    one, two = _pair(estimate, reference)
    if min(one.shape[-2:]) < WINDOW or one.ndim not in {2, 3}:
        raise InputError(
            f"images of shape {one.shape}; expected `y x` or `slices y x` of at least "
            f"{WINDOW} x {WINDOW} pixels."
        )
    peak = float(two.max()) if data_range is None else data_range
    edge = WINDOW // 2
    rows, columns = one.shape[-2:]
    maps = [
        ssim_map(a, b, peak)[edge:-edge, edge:-edge]
        for a, b in zip(one.reshape(-1, rows, columns), two.reshape(-1, rows, columns), strict=True)
    ]
    return float(np.mean(maps))


def laplacian_of_gaussian() -> np.ndarray:
    """Returns the 15 x 15 rotationally symmetric Laplacian of a Gaussian (sigma 1.5), sum zero."""
    half = HFEN_SIDE // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    squared = x**2 + y**2
    gaussian = np.exp(-squared / (2 * HFEN_SIGMA**2))
    gaussian /= gaussian.sum()
    kernel = gaussian * (squared - 2 * HFEN_SIGMA**2) / HFEN_SIGMA**4
    return kernel - kernel.mean()


def hfen(estimate: Array, reference: Array) -> float:
    """Returns the high-frequency error norm ||LoG(e) - LoG(r)|| / ||LoG(r)|| of `y x` images.

    Ravishankar & Bresler (IEEE TMI 30:1028, 2011); normalised by the reference's own norm so that
    it does not depend on the scale. Samples outside the image count as zero.

    Raises:
        InputError: if the reference has no detail at all.
    """
    one, two = _pair(estimate, reference)
    return _hfen(one[None], two[None])


def _hfen(estimate: np.ndarray, reference: np.ndarray) -> float:
    """`hfen` of `slices y x`, with norms over all of them."""
    differences = [_detail(piece) for piece in estimate - reference]
    details = [_detail(piece) for piece in reference]
    norm = float(np.linalg.norm(details))
    if norm == 0:
        raise InputError("the reference has no detail; HFEN is undefined.")
    return float(np.linalg.norm(differences)) / norm


def _detail(image: np.ndarray) -> np.ndarray:
    from scipy.signal import fftconvolve

    return np.asarray(fftconvolve(image, laplacian_of_gaussian(), mode="same"))


def score(estimate: Array, reference: Array, data_range: float | None = None) -> Score:
    """Returns all four metrics of one slice `y x`; ``data_range`` is the volume's maximum."""
    return Score(
        psnr(estimate, reference, data_range),
        ssim(estimate, reference, data_range),
        nmse(estimate, reference),
        hfen(estimate, reference),
    )


def coil_norm(maps: Array) -> np.ndarray:
    """Returns sqrt(sum_c |S_c|^2), float64 `y x`, of coil maps `coils y x`."""
    return np.sqrt(np.sum(_magnitude(maps) ** 2, axis=0))


def raw_reference(kspace: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Returns the reference of the raw k-space score, float64 `y x`.

    |sum_c conj(S_c) F^H y_c| sqrt(sum_c |S_c|^2), F the centred orthonormal FFT.

    Args:
        kspace: fully sampled, complex `coils ky kx`.
        maps: coil maps, complex `coils y x`, zero where there is no signal.
    """
    axes = (-2, -1)
    shifted = np.fft.ifftshift(kspace.astype(np.complex128), axes=axes)
    images = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=axes)
    return np.abs(np.sum(np.conj(maps) * images, axis=0)) * coil_norm(maps)


def object_mask(reference: np.ndarray) -> np.ndarray:
    """Returns the object in a raw reference `y x`, bool `y x`.

    The largest component of the filled closing (3 x 3 cross, 2 iterations) of the pixels above
    8 % of the 99.8th percentile.

    Raises:
        InputError: if no pixel is above.
    """
    from scipy import ndimage

    bright = reference > 0.08 * np.percentile(reference, 99.8)
    closed = ndimage.binary_closing(np.pad(bright, 4), iterations=2)[4:-4, 4:-4]
    labels, count = ndimage.label(ndimage.binary_fill_holes(closed))
    if count == 0:
        raise InputError("the reference has no object: no pixel is above 8 % of its bright level.")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def score_raw(estimate: Array, reference: Array, mask: np.ndarray | None = None) -> Score:
    """Returns the score of a magnitude on real raw k-space, where the truth is unknown.

    The estimate is scaled by least squares inside the mask, since methods scale differently. PSNR
    inside the mask takes the reference's maximum (inside the mask) as peak; SSIM is the mean of its
    map inside the mask; NMSE is taken inside the mask, HFEN of the masked images.

    Args:
        estimate: `y x`, complex or magnitude, already times sqrt(sum |S|^2) (see `coil_norm`).
        reference: `y x` from `raw_reference`.
        mask: bool `y x` from `object_mask`, made from the reference where it is not given.
    """
    one, two = _pair(estimate, reference)
    inside = object_mask(two) if mask is None else np.asarray(mask, dtype=bool)
    return score_volume(one[None], two[None], inside[None])


def score_volume(
    estimate: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None
) -> Score:
    """Returns the score of all slices of a volume together.

    As `score_raw`, with one scale for all slices, the maximum of the volume as peak, the mean over
    the pixels of all objects, and norms over all slices in HFEN.

    Args:
        estimate: `slices y x`, as for `score_raw`.
        reference: `slices y x`.
        mask: bool `slices y x`; by default `object_mask` of each slice.
    """
    one, two = _pair(estimate, reference)
    inside = np.stack([object_mask(piece) for piece in two]) if mask is None else mask
    scaled = least_squares_scale(one, two, inside) * one
    peak = float(two[inside].max())
    difference = (scaled - two)[inside]
    error = float(np.mean(difference**2))
    maps = np.stack([ssim_map(a, b, peak) for a, b in zip(scaled, two, strict=True)])
    return Score(
        psnr=float("inf") if error == 0 else float(10 * np.log10(peak**2 / error)),
        ssim=float(np.mean(maps[inside])),
        nmse=float(np.sum(difference**2) / np.sum(two[inside] ** 2)),
        hfen=_hfen(np.where(inside, scaled, 0), np.where(inside, two, 0)),
    )


def least_squares_scale(estimate: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float:
    """Returns what brings an estimate nearest to its reference inside the mask; 0 for no signal."""
    inside = estimate[mask].astype(np.float64)
    energy = float(np.sum(inside**2))
    return float(np.sum(inside * reference[mask])) / energy if energy > 0 else 0.0
