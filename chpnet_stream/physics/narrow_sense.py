"""A* A on a CPU, with as few virtual coils as each column of the image needs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""Share of a column's energy in its maps that may be left out."""


class NarrowSense:
    """The normal operator of `ColumnSense`, with coils of its own for every image column.

    A* A acts on each column for itself, and is the same for any rotation of the coils among
    themselves, which may be another one in every column. The one that gathers the energy of a
    column's maps in the fewest coils leaves about half of them next to nothing (geometric coil
    compression: Zhang et al., Magn Reson Med 2013;69:571); these are left out. Of what they would
    have added the mean stays: their energy in a pixel times the mean weight of the lines.

    Images are packed for it: complex `columns y`, only the columns that see the object, those with
    the most coils first.

    Args:
        maps: Complex sensitivities `coils y x`, with a norm of at most one in every pixel.
        weights: Real `ky`, 0 where not measured.
        tolerance: Share of a column's energy that may be left out.
    """

    def __init__(self, maps: Tensor, weights: Tensor, tolerance: float = TOLERANCE) -> None:
        inside = (maps != 0).flatten(0, 1).any(0).nonzero()[:, 0]
        columns = maps.permute(2, 0, 1)[inside]  # x coils y
        rotation = torch.linalg.eigh(columns @ columns.mH)[1].flip(-1)  # the strongest first
        rotated = rotation.mH @ columns
        power = torch.view_as_real(rotated).square().sum(-1)
        behind = power.sum(-1).flip(-1).cumsum(-1).flip(-1)  # energy of a coil and all weaker ones
        needed = (behind > tolerance * behind[:, :1]).sum(-1)
        order = needed.argsort(descending=True, stable=True)
        needed, rotated, power = needed[order], rotated[order], power[order]
        coils = range(int(needed[0]) if len(needed) else 0)
        self.counts = tuple(int((needed > coil).sum()) for coil in coils)
        """Columns that have a first, a second, ... coil."""
        self.shape = (maps.shape[-1], maps.shape[-2])
        self._order = (inside[order],)
        parts = [rotated[:count, coil] for coil, count in enumerate(self.counts)]
        self.maps = torch.cat(parts) if parts else rotated.new_zeros(0, maps.shape[-2])
        self.conjugate = self.maps.conj().resolve_conj()
        left_out = torch.arange(maps.shape[0]) >= needed[:, None]
        self.rest = (power * left_out[:, :, None]).sum(1)
        self._weigh(weights)

    def _weigh(self, weights: Tensor) -> None:
        lines = weights.shape[-1]
        scaled = torch.fft.ifftshift(weights) / lines  # the scale of a transform there and back
        self.weights = torch.stack((scaled, scaled), -1)
        self.extra = (self.rest * weights.mean())[..., None].expand(-1, -1, 2).contiguous()
        """What the mean of the coils that were left out adds, real `columns y 2`."""

    def weighted(self, weights: Tensor) -> NarrowSense:
        """The operator of the same maps with other weights."""
        other = copy.copy(self)
        other._weigh(weights)
        return other

    def pack(self, image: Tensor) -> Tensor:
        """Columns that see the object, of an image stored as `x y`."""
        return image.index_select(0, self._order[0])

    def unpack(self, packed: Tensor, around: Tensor | None = None) -> Tensor:
        """Image stored as `x y`.

        Args:
            packed: Columns of `pack`.
            around: Image whose other columns are taken over; zeros by default.
        """
        image = packed.new_zeros(self.shape) if around is None else around.clone()
        return image.index_copy_(0, self._order[0], packed)

    def coils_normal(self, packed: Tensor) -> Tensor:
        """A* A without `extra`, for callers that add it to a weight of their own."""
        if not self.counts:
            return torch.zeros_like(packed)
        images = torch.empty_like(self.maps)
        begin = 0
        for count in self.counts:
            here = slice(begin, begin + count)
            torch.mul(self.maps[here], packed[:count], out=images[here])
            begin += count
        kspace = torch.fft.fft(images)
        torch.view_as_real(kspace).mul_(self.weights)
        images = torch.fft.ifft(kspace, norm="forward").mul_(self.conjugate)
        begin = self.counts[0]
        whole = images[:begin]
        for count in self.counts[1:]:
            whole[:count].add_(images[begin : begin + count])
            begin += count
        return whole

    def normal_columns(self, image: Tensor) -> Tensor:
        """A* A of an image stored as `x y`."""
        packed = self.pack(image)
        normal = torch.view_as_real(self.coils_normal(packed))
        normal = normal.addcmul(self.extra, torch.view_as_real(packed))
        return self.unpack(torch.view_as_complex(normal))
