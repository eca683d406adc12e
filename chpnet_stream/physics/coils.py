"""Coil sensitivities (ESPIRiT), coil compression and coil combination."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CoilMaps:
    """Sensitivities of one slice.

    Attributes:
        maps: Complex `coils y x`; unit root sum of squares inside the support, zero outside.
        support: Real `y x` in 0..1: how well one set of maps explains the calibration data.
    """

    maps: Tensor
    support: Tensor


def espirit(
    calibration: Tensor,
    shape: tuple[int, int],
    *,
    kernel: int = 6,
    threshold: float = 1e-3,
    crop: float = 0.8,
    squarings: int = 5,
    columns: slice | None = None,
    coarse: int = 2,
) -> CoilMaps:
    """Estimate sensitivities from fully sampled calibration lines by ESPIRiT.

    Uecker et al., Magn Reson Med 2014;71:990. The image-domain matrix of every pixel is
    evaluated from the ``2 kernel - 1`` lags of the kernels' autocorrelation, so that no
    kernel is ever zero-padded to the image; its leading eigenvector is found by repeated
    squaring of the matrix. The projection of one vector onto these eigenvectors varies slowly
    from pixel to pixel, so that it is computed on every `coarse`-th pixel of both axes and
    interpolated.

    Args:
        calibration: Complex k-space `coils ky kx` around the centre, as sampled on the
            grid of the full slice; every line must be measured.
        shape: Matrix `y x` of the maps.
        kernel: Width of the kernel in samples.
        threshold: Smallest eigenvalue of the calibration matrix's Gram matrix that counts
            as signal, relative to the largest.
        crop: Eigenvalue under which a pixel has no signal; the support falls
            from one to zero in a band of 0.1 around it.
        squarings: The eigenvectors take ``2 ** squarings`` power iterations.
        columns: Evaluate only these image columns.
        coarse: Distance of the pixels at which the eigenvectors are computed; 1 computes
            every pixel.

    Returns:
        Maps and support on the matrix `shape` (or its `columns`). The phase is that of the
        first principal component of the coils.

    Raises:
        ValueError: If the calibration region is smaller than the kernel or has no signal, or
            `coarse` is not positive.
    """
    if coarse < 1:
        raise ValueError(f"expected a distance of at least one pixel, found coarse={coarse}")
    coils, n_ky, n_kx = calibration.shape
    if min(n_ky, n_kx) < kernel:
        raise ValueError(
            f"expected at least {kernel} x {kernel} calibration samples for a kernel of "
            f"{kernel}, found {n_ky} lines x {n_kx} samples"
        )
    data = calibration / calibration.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    patches = data.unfold(1, kernel, 1).unfold(2, kernel, 1)  # coils py px ky kx
    rows = patches.permute(1, 2, 0, 3, 4).reshape(-1, coils * kernel * kernel)
    values, vectors = torch.linalg.eigh(rows.mT @ rows.conj())
    if not bool(values[-1] > 0):
        raise ValueError("expected calibration data with signal, found zeros only")
    signal = vectors[:, values > threshold * values[-1]]
    kernels = signal.mT.reshape(-1, coils, kernel, kernel)

    lags = _autocorrelation(kernels)  # coils coils ly lx
    reach = torch.arange(-(kernel - 1), kernel, device=data.device)
    rows_at, columns_at = (torch.arange(size, device=data.device) for size in shape)
    columns_at = columns_at[columns] if columns is not None else columns_at
    grid = [_nodes(pixels, coarse) for pixels in (rows_at, columns_at)]
    positions = [(n - size // 2) / size for (n, _), size in zip(grid, shape, strict=True)]
    gram = _at_pixels(lags, reach, (positions[0], positions[1]))  # pixels coils coils
    vector, eigenvalue = _leading_eigenvector(gram, squarings)

    covariance = torch.einsum("cyx,dyx->cd", data, data.conj())
    principal = torch.linalg.eigh(covariance)[1][:, -1]
    reference = vector @ principal.conj()
    nodes = (len(positions[0]), len(positions[1]))
    if coarse == 1:
        vector = vector * torch.sgn(reference).conj()[:, None]
        maps, value = vector.mT.reshape(coils, *nodes), eigenvalue.reshape(nodes)
    else:  # unlike the phase of the eigenvectors, their projections have no jumps
        projected = (vector * reference.conj()[:, None]).mT.reshape(coils, *nodes)
        maps = _interpolate(projected, grid[0][1], grid[1][1])
        norm = maps.abs().square().sum(0).sqrt()
        maps = maps / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        value = _interpolate(eigenvalue.reshape(nodes), grid[0][1], grid[1][1])
    support = ((value - (crop - 0.05)) / 0.1).clamp(0.0, 1.0)
    return CoilMaps((maps * (support > 0)).contiguous(), support)


def _autocorrelation(kernels: Tensor) -> Tensor:
    """Lags `coils coils ly lx` of the kernels `n coils ky kx`, summed over the kernels."""
    size = kernels.shape[-1]
    padded = torch.fft.ifftn(kernels, s=(2 * size, 2 * size), dim=(-2, -1), norm="forward")
    product = torch.einsum("ncyx,ndyx->cdyx", padded, padded.conj())
    lags = torch.fft.fftn(product, dim=(-2, -1), norm="forward")
    order = torch.arange(-(size - 1), size, device=kernels.device) % (2 * size)
    return lags[..., order, :][..., order] / size**2


def _nodes(pixels: Tensor, distance: int, taps: int = 6) -> tuple[Tensor, Tensor]:
    """Nodes that carry the interpolation of `pixels`, and its weights `pixels nodes`.

    The weights are those of the polynomial through the `taps` nearest nodes (Lagrange). Nodes
    may lie outside the matrix, where the maps go on periodically.
    """
    if distance == 1:
        return pixels, torch.eye(len(pixels), device=pixels.device)
    below = torch.div(pixels, distance, rounding_mode="floor")
    first = int(below.min()) - (taps // 2 - 1)
    nodes = torch.arange(first, int(below.max()) + taps // 2 + 1, device=pixels.device)
    share = pixels / distance - below
    offsets = range(1 - taps // 2, taps // 2 + 1)
    weights = torch.zeros((len(pixels), len(nodes)), device=pixels.device)
    for offset in offsets:
        weight = torch.ones_like(share)
        for other in offsets:
            if other != offset:
                weight = weight * (share - other) / (offset - other)
        weights[torch.arange(len(pixels)), below + offset - first] = weight
    return distance * nodes, weights


def _interpolate(values: Tensor, along_y: Tensor, along_x: Tensor) -> Tensor:
    """Values on the nodes, `... y x`, to the pixels, by matrices `pixels nodes`."""
    weights = along_y.to(values.dtype), along_x.to(values.dtype)
    return weights[0] @ (values @ weights[1].mT)


def _at_pixels(lags: Tensor, reach: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    """Evaluate the trigonometric polynomial with coefficients `lags`: `pixels coils coils`."""
    coils = lags.shape[0]
    phases = [torch.exp(2j * torch.pi * p[:, None] * reach).to(lags.dtype) for p in positions]
    upper = torch.triu_indices(coils, coils, device=lags.device)
    half = phases[0] @ lags[upper[0], upper[1]] @ phases[1].mT  # pairs y x
    flat = half.flatten(1).mT
    gram = torch.empty((len(flat), coils, coils), dtype=lags.dtype, device=lags.device)
    gram[:, upper[1], upper[0]] = flat.conj()
    gram[:, upper[0], upper[1]] = flat
    return gram


def _leading_eigenvector(gram: Tensor, squarings: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvector `pixels coils` and eigenvalue `pixels` of Hermitian matrices."""
    power = gram
    for _ in range(squarings):
        trace = power.diagonal(dim1=-2, dim2=-1).real.sum(-1).clamp_min(1e-20)
        power = power / trace[:, None, None]
        power = power @ power
    # any column with a component along the leading eigenvector will do: take the largest
    largest = power.diagonal(dim1=-2, dim2=-1).real.argmax(-1)
    vector = power[torch.arange(len(power), device=power.device), :, largest]
    vector = vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-20)
    image = (gram @ vector[..., None])[..., 0]
    eigenvalue = (vector.conj() * image).sum(-1).real
    return vector, eigenvalue


def compression_matrix(calibration: Tensor, *, energy: float = 0.999, limit: int = 10) -> Tensor:
    """Matrix `virtual coils` that keeps the coils' strongest principal components.

    Buehrer et al., Magn Reson Med 2007;57:1131; Huang et al., Magn Reson Imaging
    2008;26:133. Its rows are orthonormal: white noise stays white.

    Args:
        calibration: Complex k-space or images `coils ...`, prewhitened.
        energy: Share of the signal's energy that must be kept.
        limit: Most virtual coils; the strongest are kept.

    Returns:
        Complex matrix `virtual coils`; apply it as ``matrix @ data``. The largest entry of each
        row is real and positive: which phase an eigenvector has is otherwise up to the library
        and its number of threads, and so would the phase of the image be.
    """
    flat = calibration.flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.mH)
    share = values.flip(0).clamp_min(0).cumsum(0)
    enough = int((share < energy * share[-1]).sum().item()) + 1
    keep = max(1, min(limit, enough, calibration.shape[0]))
    rows = vectors.flip(1)[:, :keep].mH
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return (rows * (largest.conj() / largest.abs())).contiguous()


def combine(images: Tensor, maps: Tensor) -> Tensor:
    """Coil combination with unit-norm maps: ``sum_c conj(S_c) x_c``.

    Roemer et al., Magn Reson Med 1990;16:192, for white noise.

    Args:
        images: Complex `... coils y x`.
        maps: Complex `... coils y x`.

    Returns:
        Complex `... y x`.
    """
    return (maps.conj() * images).sum(-3)


def root_sum_of_squares(images: Tensor) -> Tensor:
    """Magnitude `... y x` of coil images `... coils y x`."""
    return images.abs().square().sum(-3).sqrt()
