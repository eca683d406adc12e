"""U-shaped CNN whose decoder up-samples by sub-pixel convolution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Bias-free convolution that keeps the matrix (divided by the stride)."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), with a small second convolution to begin with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = conv(channels, channels)
        self.activation = nn.LeakyReLU(0.1)
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """Features `batch channels y x` to features of the same shape."""
        return x + self.second(self.activation(self.first(x)))


class SubPixelUp(nn.Module):
    """Twice the matrix by convolution and pixel shuffle (Shi et al., arXiv 1609.05158)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.expand = conv(inputs, 4 * outputs, kernel)
        self.shuffle = nn.PixelShuffle(2)
        with torch.no_grad():  # equal sub-pixels at first: no checkerboard (arXiv 1707.02937)
            kernel_of = self.expand.weight
            kernel_of.copy_(kernel_of[::4].repeat_interleave(4, 0))

    def forward(self, x: Tensor) -> Tensor:
        """`batch inputs y x` to `batch outputs 2y 2x`."""
        return self.shuffle(self.expand(x))


class Denoiser(nn.Module):
    """The network V: image channels (and what helps them) in, image channels out.

    It has no biases and its activations are piecewise linear, so that V(a x) = a V(x) for
    every a > 0 (Mohan et al., arXiv 1906.05478): what it does cannot depend on the units
    of the image, and slices of a volume cannot flicker by their scaling.

    Args:
        inputs: Number of input channels at full resolution.
        outputs: Number of output channels at full resolution.
        widths: Channels of every level, finest first; each level halves the matrix.
        blocks: Residual blocks at each level of the encoder and of the decoder.
        unshuffle: Factor by which the input is folded into channels first (1: not at all).
        state: Whether the features of the finest level are handed to the next iteration.
        up_kernel: Kernel of the sub-pixel convolutions.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        *,
        blocks: int = 1,
        unshuffle: int = 1,
        state: bool = False,
        up_kernel: int = 3,
    ) -> None:
        super().__init__()
        self.fold = unshuffle
        fold = unshuffle**2
        self.unshuffle = nn.PixelUnshuffle(unshuffle) if unshuffle > 1 else nn.Identity()
        self.shuffle = nn.PixelShuffle(unshuffle) if unshuffle > 1 else nn.Identity()
        self.state = state
        self.multiple = unshuffle * 2 ** (len(widths) - 1)
        self.head = conv(inputs * fold + (widths[0] if state else 0), widths[0])
        self.activation = nn.LeakyReLU(0.1)

        def stage(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))

        pairs = list(itertools.pairwise(widths))
        self.encoders = nn.ModuleList(stage(w) for w in widths[:-1])
        self.downs = nn.ModuleList(conv(a, b, 3, stride=2) for a, b in pairs)
        self.bottom = nn.Sequential(stage(widths[-1]), stage(widths[-1]))
        self.ups = nn.ModuleList(SubPixelUp(b, a, up_kernel) for a, b in reversed(pairs))
        self.fuses = nn.ModuleList(conv(2 * a, a) for a, _ in reversed(pairs))
        self.decoders = nn.ModuleList(stage(a) for a, _ in reversed(pairs))
        self.tail = conv(widths[0], outputs * fold)
        with torch.no_grad():
            self.tail.weight.mul_(0.1)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`batch inputs y x` to `batch outputs y x` and the finest features.

        Args:
            x: Input of any matrix; air is added below and to the right of it up to a
                multiple of `multiple`, and taken off the output.
            state: Features that the previous iteration returned (zeros where there is none).
        """
        rows, columns = x.shape[2:]
        folded = self.unshuffle(
            functional.pad(x, (0, -columns % self.multiple, 0, -rows % self.multiple))
        )
        if self.state:
            if state is None:
                shape = (folded.shape[0], self.head.out_channels, *folded.shape[2:])
                state = folded.new_zeros(shape)
            folded = torch.cat([folded, state], dim=1)
        features = self.head(folded)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.bottom(features)
        for up, fuse, decoder in zip(self.ups, self.fuses, self.decoders, strict=True):
            features = fuse(torch.cat([up(features), skips.pop()], dim=1))
            features = decoder(features)
        image = self.shuffle(self.tail(self.activation(features)))
        return image[..., :rows, :columns], features
