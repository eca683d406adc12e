"""Pictures for people: single images as PNG, and methods side by side."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.whole_file import whole_file

ERROR_GAIN = 5.0

_METADATA = {"Software": "chpnet-stream"}


@dataclass(frozen=True)
class Panel:
    """One picture of a comparison.

    Attributes:
        title: First line of its caption.
        caption: Second line: scores and time.
        image: Magnitude `y x`.
        error: Signed difference to the reference in the same units, or None.
    """

    title: str
    caption: str
    image: np.ndarray
    error: np.ndarray | None = None

    def turned(self, turn: Callable[[np.ndarray], np.ndarray]) -> Panel:
        """The same with its pictures turned or flipped."""
        error = None if self.error is None else turn(self.error)
        return replace(self, image=turn(self.image), error=error)


def require_matplotlib(option: str = "--png and --compare") -> None:
    """Refuse early where no pictures can be made.

    Args:
        option: What was asked for.

    Raises:
        ConfigurationError: If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"{option}: needs matplotlib, found none; pip install 'chpnet-stream[plots]'"
        ) from error


def save_png(path: Path, image: np.ndarray, window: tuple[float, float]) -> None:
    """Write a magnitude image as an 8-bit PNG.

    Args:
        path: File to write.
        image: `y x`; row 0 is the top row of the picture.
        window: Values shown as black and as white.

    Raises:
        OutputError: If it can't be written.
    """
    use_private_cache()
    from matplotlib.image import imsave

    low, high = window
    span = high - low if high > low else 1.0
    with whole_file(path) as temporary:
        imsave(
            temporary,
            np.clip((image - low) / span, 0, 1),
            cmap="gray",
            vmin=0,
            vmax=1,
            format="png",
            metadata=_METADATA,
        )


def save_comparison(path: Path, panels: list[Panel], heading: str) -> None:
    """Write panels side by side; under each its error, magnified, or its centre, enlarged.

    Args:
        path: PNG file to write.
        panels: The pictures, of one size and one unit; the last one sets the window.
        heading: Title of the figure.

    Raises:
        OutputError: If it can't be written.
    """
    use_private_cache()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    top = float(np.percentile(panels[-1].image, 99.7)) or 1.0
    rows, columns = panels[0].image.shape
    width = 3.0
    height = width * rows / columns
    figure = Figure(figsize=(width * len(panels), 2 * height + 1.3), facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(panels), squeeze=False)
    with_errors = any(panel.error is not None for panel in panels)
    for i, panel in enumerate(panels):
        upper, lower = grid[0, i], grid[1, i]
        upper.imshow(panel.image, cmap="gray", vmin=0, vmax=top, interpolation="none")
        upper.set_title(f"{panel.title}\n{panel.caption}", color="white", fontsize=9)
        if panel.error is not None:
            shown = np.abs(panel.error) * ERROR_GAIN
            lower.imshow(shown, cmap="magma", vmin=0, vmax=top, interpolation="none")
            lower.set_title(f"error x {ERROR_GAIN:g}", color="white", fontsize=8)
        elif not with_errors:
            y, x = rows // 4, columns // 4
            part = panel.image[y : rows - y, x : columns - x]
            lower.imshow(part, cmap="gray", vmin=0, vmax=top, interpolation="none")
            lower.set_title("centre", color="white", fontsize=8)
        for axes in (upper, lower):
            axes.axis("off")
    figure.suptitle(heading, color="white", fontsize=10)
    figure.tight_layout()
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, facecolor="black", format="png", metadata=_METADATA)


def use_private_cache() -> None:
    """Matplotlib wants to write a font list; where it may not, a temporary folder serves."""
    home: Any = os.environ.get("MPLCONFIGDIR") or Path.home()
    if not os.access(home, os.W_OK):
        os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="chpnet-stream-")
