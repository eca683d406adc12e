"""Pixels as unsigned integers, for viewers and gadgets that take no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chpnet_stream.mrd.image_file import UINT16_TOP, tell_scale

HEADROOM = 4.0
"""How much brighter than the first image the others may be before they are cut off."""

STEP = 0.05
"""Least slope in deviations of the noise: a scan may begin beside the object, with noise alone."""

FAINT = 0.1
"""Largest pixel in deviations of the noise, up to which an image must be in units of its own."""


@dataclass(frozen=True)
class PixelScale:
    """One scale for all images of a scan: a stored value s stands for `slope` * s.

    int16 is never made: Gadgetron's reader refuses it.
    """

    slope: float

    @classmethod
    def of(cls, first: np.ndarray, unit: float = 0.0) -> PixelScale:
        """The scale that the first image of a scan sets.

        Args:
            first: The image.
            unit: Standard deviation of the noise in it; 0 where that is not known.
        """
        top = float(np.abs(first).max(initial=0.0))
        least = 0.0 if 0 < top <= FAINT * unit else STEP * unit
        return cls(max(HEADROOM * top / UINT16_TOP, least) or 1.0)

    @property
    def top(self) -> float:
        """The brightest pixel that can be told."""
        return self.slope * UINT16_TOP

    def cuts_off(self, pixels: np.ndarray) -> bool:
        """Whether some pixels are brighter than can be told."""
        return bool(np.max(pixels, initial=0.0) > self.top + self.slope)

    def apply(self, image: Any) -> Any:
        """An `ismrmrd.Image` of float32 magnitudes as one of uint16; `tell_scale` has the meta."""
        import ismrmrd

        stored = np.clip(np.rint(image.data / self.slope), 0, UINT16_TOP).astype(np.uint16)
        head = image.getHead()
        head.data_type = ismrmrd.DATATYPE_USHORT
        made = ismrmrd.Image(head=head, meta=ismrmrd.Meta(image.meta))
        made.data[...] = stored
        tell_scale(made.meta, self.slope)
        return made
