"""Images on the pixels that the protocol asks for, where these are finer than the encoded ones."""

from __future__ import annotations

import torch
from torch import Tensor

from chpnet_stream.mrd.header import Encoding
from chpnet_stream.mrd.images import IMAGE_AXES
from chpnet_stream.physics.interpolation import interpolate


def on_recon_pixels(image: Tensor, encoding: Encoding) -> Tensor:
    """An image of the encoded field of view, in the field of view and on the pixels of reconSpace.

    Axes whose pixels would not be finer are only cut, as by `crop_to_recon`. See
    `Encoding.enlarged` for the pixels and `physics.interpolation` for their values.

    Args:
        image: Complex `y x`, or magnitudes, of which none becomes negative.
        encoding: The encoding that it is of; x may be without its oversampling already.
    """
    made = image if image.is_complex() else image.to(torch.complex64)
    for axis, matrix_axis in IMAGE_AXES:
        size, step = encoding.enlarged(matrix_axis)
        if step < 1:
            made = interpolate(made, size, step, axis)
        else:
            size = min(size, made.shape[axis])
            made = made.narrow(axis, made.shape[axis] // 2 - size // 2, size)
    return made if image.is_complex() else made.real.clamp_min(0)
