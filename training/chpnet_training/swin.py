"""Residual windowed attention (Liu et al., arXiv 2103.14030), as image restoration uses it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Multi-head self-attention inside square windows, with a learned bias by relative position.

    Args:
        width: Channels.
        heads: Attention heads; they divide the width.
        window: Side of a window.
        shift: Rows and columns by which the windows are moved (cyclically), so that neighbouring
            windows exchange what they know in the next block.
    """

    index: Tensor

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        place = torch.stack(
            torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        ).flatten(1)
        offset = place[:, :, None] - place[:, None, :] + window - 1
        self.register_buffer("index", offset[0] * (2 * window - 1) + offset[1], persistent=False)
        self._masks: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """`batch y x width` to the same shape; `y` and `x` are multiples of the window."""
        batch, rows, columns, width = x.shape
        w = self.window
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        x = x.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3)  # batch Y X w w c
        tokens = x.reshape(-1, w * w, width)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.index].permute(2, 0, 1)[None]  # 1 heads tokens tokens
        if self.shift:
            seam = self._mask(rows, columns, x.device)  # windows 1 tokens tokens
            bias = (bias + seam).repeat(batch, 1, 1, 1)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias.to(q.dtype)
        out = self.out((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
        out = out.view(batch, rows // w, columns // w, w, w, width).transpose(2, 3)
        out = out.reshape(batch, rows, columns, width)
        return out.roll((self.shift, self.shift), (1, 2)) if self.shift else out

    def _mask(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """-100 between tokens that only the cyclic shift made neighbours, else 0."""
        key = (rows, columns, device)
        if key not in self._masks:
            w, s = self.window, self.shift
            regions = []
            for size in (rows, columns):
                line = torch.zeros(size, dtype=torch.long)
                line[size - w : size - s] = 1
                line[size - s :] = 2
                regions.append(line)
            region = 3 * regions[0][:, None] + regions[1][None, :]
            region = region.unflatten(1, (-1, w)).unflatten(0, (-1, w)).transpose(1, 2)
            region = region.reshape(-1, w * w)
            apart = region[:, :, None] != region[:, None, :]
            self._masks[key] = torch.where(apart, -100.0, 0.0)[:, None].to(device)
        return self._masks[key]


class SwinBlock(nn.Module):
    """x + g attention(norm x), then x + g mlp(norm x), with the gate g of the block.

    Args:
        width: Channels.
        heads: Attention heads.
        window: Side of the attention windows.
        shift: Shift of the windows.
        ratio: Hidden channels of the MLP over the width.
    """

    def __init__(self, width: int, heads: int, window: int, shift: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = WindowAttention(width, heads, window, shift)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Features `batch y x width` and the gate (a scalar in 0..1) to features."""
        x = x + gate * self.attention(self.norms[0](x))
        return x + gate * self.mlp(self.norms[1](x))
