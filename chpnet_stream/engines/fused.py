"""A denoiser on a CPU with oneDNN's fused convolutions and weights packed beforehand."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from chpnet_stream.engines.engine import first_line
from chpnet_stream.network.denoiser import Denoiser, ResidualBlock

TOLERANCE = 0.05
"""Most that a fused denoiser may differ from the plain one in its dry run, relative: rounding to
bfloat16 is 0.004 of each number."""

SIZES = 4
"""Sizes of images for which each convolution keeps its weights, laid out as oneDNN wants them."""

logger = logging.getLogger(__name__)


def fused(denoiser: nn.Module, dtype: torch.dtype = torch.bfloat16) -> FusedDenoiser | None:
    """The denoiser with fused convolutions; None, by a warning, where PyTorch can't do that.

    None without a word where the plain denoiser gives no numbers, for the checks of its images.

    The operators are those that PyTorch's own compiler puts in on a CPU. They are no public
    interface, so that the result is compared with the plain denoiser once.

    Args:
        denoiser: Float32, on the CPU; it is not changed.
        dtype: Of the arithmetic.
    """
    if not isinstance(denoiser, Denoiser) or not torch.backends.mkldnn.is_available():
        return None
    side = 2 * denoiser.multiple
    inputs = denoiser.head.in_channels
    inputs -= denoiser.head.out_channels if denoiser.state else 0
    inputs //= denoiser.fold**2
    example = torch.linspace(-1.0, 1.0, inputs * side * side).sin().view(1, inputs, side, side)
    try:
        with torch.inference_mode():
            made = FusedDenoiser(denoiser, dtype)
            found, expected = made(example)[0], denoiser(example)[0]
            if not expected.isfinite().all():
                return None  # a network that is broken: it is not for us to say so
            error = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
    except (RuntimeError, AttributeError, TypeError) as failure:
        logger.warning("convolutions are not fused: %s", first_line(failure))
        return None
    if not error <= TOLERANCE:
        logger.warning(
            "convolutions are not fused: expected a difference of at most %g, found %.3g",
            TOLERANCE,
            error,
        )
        return None
    return made


class FusedDenoiser(nn.Module):
    """Stands where a `Denoiser` stood: the same layers, channels innermost, in fewer passes.

    Activations and additions are done where a convolution writes its result, weights are laid out
    for oneDNN once and not in every call, and the sub-pixel shuffle of the decoder is a copy of
    whole pixels, since the convolution before it gives its channels in that order.

    Args:
        denoiser: The denoiser; it is not changed.
        dtype: Of the arithmetic; bfloat16 has the exponents of float32, so that no image is too
            bright or too dark for it.
    """

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.fold = denoiser.fold
        self.multiple = denoiser.multiple
        self.state = denoiser.state
        self.width = denoiser.head.out_channels
        self._head = _Convolution(denoiser.head, dtype)
        self._encoders = [_blocks(stage, dtype) for stage in denoiser.encoders]
        self._downs = [_Convolution(down, dtype) for down in denoiser.downs]
        self._bottom = [block for stage in denoiser.bottom for block in _blocks(stage, dtype)]
        self._ups = [_Convolution(up.expand, dtype, pixels=True) for up in denoiser.ups]
        self._fuses = [_Convolution(fuse, dtype) for fuse in denoiser.fuses]
        self._decoders = [_blocks(stage, dtype) for stage in denoiser.decoders]
        self._tail = _Convolution(denoiser.tail, dtype)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Denoiser.forward`; the features stay in `dtype`, as only a denoiser reads them."""
        rows, columns = x.shape[2:]
        below, beside = -rows % self.multiple, -columns % self.multiple
        padded = functional.pad(x, (0, beside, 0, below)) if below or beside else x
        features = self._head(self._input(padded, state))
        skips = []
        for encoder, down in zip(self._encoders, self._downs, strict=True):
            features = _through(encoder, features)
            skips.append(features)
            features = down(features)
        features = _through(self._bottom, features)
        for up, fuse, decoder in zip(self._ups, self._fuses, self._decoders, strict=True):
            features = _through(decoder, fuse(_beside(up(features), skips.pop())))
        image = self._tail(functional.leaky_relu(features, 0.1))
        image = functional.pixel_shuffle(image, self.fold).to(x.dtype)
        return image[..., :rows, :columns], features

    def _input(self, x: Tensor, state: Tensor | None) -> Tensor:
        """Folded input and state, `batch channels y x`, channels innermost."""
        folded = functional.pixel_unshuffle(x.to(self.dtype), self.fold)
        batch, channels, rows, columns = folded.shape
        # As matrices, for which PyTorch has a transposition by blocks.
        pixels = torch.stack([image.flatten(1).T.contiguous() for image in folded])
        parts = [pixels.view(batch, rows, columns, channels)]
        if self.state and state is None:
            parts.append(folded.new_zeros(batch, rows, columns, self.width))
        elif state is not None and self.state:
            parts.append(state.permute(0, 2, 3, 1))
        return torch.cat(parts, -1).permute(0, 3, 1, 2)


class _Convolution:
    """One convolution, its weights packed for the sizes that have come.

    oneDNN has several layouts, and takes weights of another one than it would choose, but with its
    slowest code: a hundred times slower where images are small.

    Args:
        layer: The layer, without a bias.
        dtype: Of the arithmetic.
        pixels: Put out channels by sub-pixels first (`dy dx channel`), as `_beside` takes them.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, *, pixels: bool = False) -> None:
        weight = layer.weight.detach()
        if pixels:
            weight = weight.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)
        self._weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self._place = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)
        self._packed: dict[tuple[int, int], Tensor] = {}
        self._run = torch.ops.mkldnn._convolution_pointwise

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = self._run(x, self._weights(x), None, *self._place, "none", [], "")
        return found

    def activated(self, x: Tensor, slope: float) -> Tensor:
        """With a leaky rectifier behind it."""
        behind = ("leaky_relu", [slope], "")
        found: Tensor = self._run(x, self._weights(x), None, *self._place, *behind)
        return found

    def added(self, x: Tensor, other: Tensor) -> Tensor:
        """Its result and another tensor."""
        behind: tuple[Any, ...] = ("add", None, None, [], None)
        found: Tensor = self._run.binary(x, other, self._weights(x), None, *self._place, *behind)
        return found

    def _weights(self, x: Tensor) -> Tensor:
        """Weights in the layout for the size of an image."""
        size = (x.shape[-2], x.shape[-1])
        found = self._packed.get(size)
        if found is None:
            shape = [1, x.shape[1], *size]
            pack = torch.ops.mkldnn._reorder_convolution_weight
            found = pack(self._weight, *self._place, shape)
            for old in list(self._packed)[: -(SIZES - 1)]:  # the newest stay
                self._packed.pop(old, None)
            self._packed[size] = found
        return found


class _Block:
    """A `ResidualBlock`."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        self.first = _Convolution(block.first, dtype)
        self.second = _Convolution(block.second, dtype)
        self.slope = block.activation.negative_slope

    def __call__(self, x: Tensor) -> Tensor:
        return self.second.added(self.first.activated(x, self.slope), x)


def _blocks(stage: Any, dtype: torch.dtype) -> list[_Block]:
    return [_Block(block, dtype) for block in stage]


def _through(blocks: list[_Block], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def _beside(expanded: Tensor, skip: Tensor) -> Tensor:
    """Sub-pixels in their places, and the skip's channels behind them: `batch 2c y x`.

    Args:
        expanded: `batch 4c y/2 x/2`, channels as `dy dx c`.
        skip: `batch c y x`.
    """
    batch, channels, rows, columns = skip.shape
    made = expanded.new_empty(batch, rows, columns, 2 * channels)
    places = made.view(batch, rows // 2, 2, columns // 2, 2, 2 * channels)
    pixels = expanded.permute(0, 2, 3, 1).unflatten(-1, (2, 2, channels))  # b y x dy dx c
    places[..., :channels].copy_(pixels.transpose(2, 3))
    made[..., channels:].copy_(skip.permute(0, 2, 3, 1))
    return made.permute(0, 3, 1, 2)
