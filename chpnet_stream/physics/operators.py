"""The task operators A and their adjoints: parallel imaging (`kspace`) and `superres`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from chpnet_stream.physics.fourier import fft, ifft, resize_centred


class LinearOperator(ABC):
    """A linear map with its adjoint, for data consistency."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A* y."""

    def normal(self, x: Tensor) -> Tensor:
        """A* A x."""
        return self.adjoint(self.forward(x))


class SenseOperator(LinearOperator):
    """y = M F S x for one slice or a batch (Pruessmann et al., Magn Reson Med 1999;42:952).

    Args:
        maps: Complex sensitivities `... coils y x`.
        mask: Weights of the samples, broadcast against `... coils ky kx`: a mask `ky` must
            come as `ky 1`. Values between 0 and 1 weight lines by their noise.
    """

    def __init__(self, maps: Tensor, mask: Tensor) -> None:
        self.maps = maps
        self.mask = mask.to(maps.real.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Image `... y x` to masked k-space `... coils ky kx`."""
        return self.mask * fft(self.maps * x.unsqueeze(-3))

    def adjoint(self, y: Tensor) -> Tensor:
        """K-space `... coils ky kx` to image `... y x`."""
        return (self.maps.conj() * ifft(self.mask * y)).sum(-3)


class Downsampling(LinearOperator):
    """y = D x: block average by an integer factor, the `superres` task.

    Args:
        factor: Number of image pixels along each axis that make one measured pixel.
    """

    def __init__(self, factor: int) -> None:
        _at_least_one(factor)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Image `... y x` to the mean of its blocks, `... y/factor x/factor`."""
        f = self.factor
        _divisible(x, f)
        blocks = x.unflatten(-1, (-1, f)).unflatten(-3, (-1, f))  # ... y f x f
        return blocks.mean(dim=(-3, -1))

    def adjoint(self, y: Tensor) -> Tensor:
        """Blocks `... y x` back to the image matrix, divided by ``factor ** 2``."""
        f = self.factor
        return y.repeat_interleave(f, -2).repeat_interleave(f, -1) / f**2


class KspaceCentre(LinearOperator):
    """y = A x: a real image seen through the centre of its k-space alone.

    What a scan of a lower resolution measures. Intensities are kept (a constant stays what it is),
    and so is the place of the centre pixel, at index ``n // 2`` in both images; pixels of y are
    `factor` pixels of x apart.

    Args:
        factor: Number of image pixels along each axis to one of the measured image.
    """

    def __init__(self, factor: int) -> None:
        _at_least_one(factor)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Real image `... y x` to `... y/factor x/factor`."""
        f = self.factor
        _divisible(x, f)
        shape = (x.shape[-2] // f, x.shape[-1] // f)
        return ifft(resize_centred(fft(x), shape)).real / f

    def adjoint(self, y: Tensor) -> Tensor:
        """Real image `... y x` to its zero-filled interpolation, over ``factor ** 2``."""
        f = self.factor
        shape = (y.shape[-2] * f, y.shape[-1] * f)
        return ifft(resize_centred(fft(y), shape)).real / f


def _at_least_one(factor: int) -> None:
    if factor < 1:
        raise ValueError(f"expected a factor of at least 1, found {factor}")


def _divisible(x: Tensor, factor: int) -> None:
    if x.shape[-2] % factor or x.shape[-1] % factor:
        raise ValueError(
            f"expected a matrix divisible by {factor}, found {x.shape[-2]} x {x.shape[-1]}"
        )


def sense_gram(maps: Tensor, weights: Tensor) -> Tensor:
    """The normal operator of a phase-encode mask as one small matrix for every readout position.

    When whole readouts are measured, A* A acts on each image column on its own, and

        G[x, y, y'] = p[y - y'] sum_c conj(S_c[y, x]) S_c[y', x]

    with p the point spread function of the mask. Applying it costs ``y ** 2`` products a
    column whatever the number of coils, and it is a plain matrix product, which every
    inference engine has. (The same normal operator is often applied by convolution, for
    example Fessler et al., IEEE Trans Signal Process 2005;53:3393.)

    Args:
        maps: Complex sensitivities `... coils y x`.
        weights: Real `ky` or `... ky`: weight of every line, 0 where not measured.

    Returns:
        Complex Hermitian matrices `... x y y`.
    """
    lines = weights.shape[-1]
    spread = torch.fft.ifft(torch.fft.ifftshift(weights, dim=-1).to(maps.dtype), dim=-1)
    index = torch.arange(lines, device=maps.device)
    toeplitz = spread[..., (index[:, None] - index[None, :]) % lines]  # ... y y
    columns = maps.movedim(-1, -3)  # ... x coils y
    return (columns.mH @ columns) * toeplitz.unsqueeze(-3)


def apply_gram(gram: Tensor, x: Tensor) -> Tensor:
    """Apply matrices `... x y y` to an image `... y x` (both complex)."""
    return (gram @ x.mT.unsqueeze(-1)).squeeze(-1).mT


class GramOperator:
    """Normal operator given by `sense_gram`, for callers that only need A* A.

    Args:
        gram: Complex `... x y y`.
    """

    def __init__(self, gram: Tensor) -> None:
        self.gram = gram

    def normal(self, x: Tensor) -> Tensor:
        """A* A x for an image `... y x`."""
        return apply_gram(self.gram, x)


class ColumnSense:
    """The normal operator of a phase-encode mask by transforms along `y` only.

    When whole readouts are measured the transforms along `x` cancel, and shifts of the origin
    cancel too: A* A x = sum_c conj(S_c) F_y^-1 m F_y S_c x. Memory is laid out with `y`
    innermost, which makes it the fastest form on a CPU for up to about ten coils.

    Args:
        maps: Complex sensitivities `... coils y x`.
        weights: Real `... ky`, 0 where not measured.
    """

    def __init__(self, maps: Tensor, weights: Tensor) -> None:
        self.columns = maps.shape[-1]
        # Beside the object the maps are zero, and so is all that is computed there. (A GPU has
        # more than enough threads, and likes matrices that are always the same.)
        self.first, self.last = _seen(maps) if maps.device.type == "cpu" else (0, self.columns)
        self.maps = maps[..., self.first : self.last].mT.contiguous()  # ... coils x y
        self.conjugate = self.maps.conj().resolve_conj()
        self._weigh(weights)

    def _weigh(self, weights: Tensor) -> None:
        self.weights = _pairs(weights)
        # On a GPU it is not worth waiting for the answer.
        whole = (weights == 1) | (weights == 0)
        self.plain = weights.device.type == "cpu" and bool(whole.all())

    def weighted(self, weights: Tensor) -> ColumnSense:
        """The operator of the same maps with other weights."""
        other = copy.copy(self)
        other._weigh(weights)
        return other

    def adjoint_columns(self, data: Tensor) -> Tensor:
        """Image stored as `... x y` of lines that are given their weights; without gradients.

        Args:
            data: K-space transformed along x, `... coils x ky`, x from `first` to before `last`,
                zero where nothing was measured, ky in the order of the FFT, with the phase that
                puts the image's origin at ``n // 2`` (`CoilLines`).
        """
        if not self.plain:
            lines = data.shape[-1]
            data = torch.view_as_complex(torch.view_as_real(data) * (lines * self.weights))
        images = torch.fft.ifft(data, dim=-1, norm="ortho")
        return self._whole(images.mul_(self.conjugate).sum(-3))

    def normal_columns(self, x: Tensor) -> Tensor:
        """A* A x for an image stored as `... x y`."""
        inside = x[..., self.first : self.last, :].unsqueeze(-3)
        kspace = torch.view_as_real(torch.fft.fft(self.maps * inside, dim=-1))
        if torch.is_grad_enabled():
            images = torch.fft.ifft(torch.view_as_complex(kspace * self.weights), norm="forward")
            return self._whole((self.conjugate * images).sum(-3))
        kspace.mul_(self.weights)  # every pass over memory counts: in place
        images = torch.fft.ifft(torch.view_as_complex(kspace), dim=-1, norm="forward")
        return self._whole(images.mul_(self.conjugate).sum(-3))

    def energy(self, x: Tensor) -> Tensor:
        """``|A x|^2`` of one image stored as `x y`, float64, in half the time of ``A* A x``."""
        kspace = torch.fft.fft(self.maps * x[self.first : self.last], dim=-1)
        power = torch.view_as_real(kspace).square().sum((0, 1, 3)).double()  # ky
        return (power * self.weights[0, 0, :, 0]).sum()

    def normal(self, x: Tensor) -> Tensor:
        """A* A x for an image `... y x`."""
        return self.normal_columns(x.mT.contiguous()).mT

    def _whole(self, inside: Tensor) -> Tensor:
        """An image `... x y` with the columns beside the object, which are zero."""
        beside = (0, 0, self.first, self.columns - self.last)
        return torch.nn.functional.pad(inside, beside) if any(beside) else inside


def _seen(maps: Tensor) -> tuple[int, int]:
    """First and past-the-last column where any of the maps `... coils y x` is not zero."""
    there = (maps.detach() != 0).flatten(0, -2).any(0).nonzero()
    return (int(there[0]), int(there[-1]) + 1) if len(there) else (0, maps.shape[-1])


def _pairs(weights: Tensor) -> Tensor:
    """Weights `... ky` for FFT of `... coils x ky` seen as pairs of real numbers, scale included.

    Once for the real and once for the imaginary part, so that they multiply real numbers; divided
    by the number of lines, the scale of a transform there and back.
    """
    lines = weights.shape[-1]
    scaled = torch.fft.ifftshift(weights, dim=-1) / lines
    return scaled.repeat_interleave(2, -1).unflatten(-1, (lines, 2))[..., None, None, :, :]
