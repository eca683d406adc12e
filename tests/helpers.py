"""What several tests use: analytic truths, small scans, ways to read them."""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from chpnet_stream.server import ScanServer
from chpnet_stream.simulation.options import SimulationOptions

T = TypeVar("T")
Server = TypeVar("Server", bound=ScanServer)


def wait_for(look: Callable[[], T], seconds: float = 60.0) -> T:
    """What `look` finds, asked again until it is something; nothing when time is over."""
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.005)
    return found


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch is told to use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def running(server: Server, patience: float | None = None) -> Iterator[Server]:
    """A server that serves on a thread of its own."""
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(patience)


def small_options(**changes: Any) -> SimulationOptions:
    """Options of a scan that takes half a second: 2 slices of 64 x 64, 4 coils, R = 2."""
    values = {"matrix": (64, 64), "slices": 2, "coils": 4, "acceleration": 2}
    values |= {"calibration_lines": 16} | changes
    return SimulationOptions(**values)


def ellipse_kspace(
    ky: NDArray[np.floating],
    kx: NDArray[np.floating],
    centre: tuple[float, float],
    half_axes: tuple[float, float],
    angle: float = 0.0,
) -> NDArray[np.complex128]:
    """Fourier transform of an ellipse of unit height.

    With the half axes a (y) and b (x) and the turned frequencies u, v it is
    ``a b J1(2 pi q) / q exp(-2 pi i (ky cy + kx cx))``, ``q = sqrt((a u)^2 + (b v)^2)`` (Van de
    Walle et al., IEEE Trans Med Imaging 1997;16:473; for the head phantom: Koay, Sarlls,
    Ozarslan, Magn Reson Med 2007;58:430).

    Args:
        ky: Frequencies in cycles per unit length, any shape.
        kx: The same along x.
        centre: Centre (y, x) of the ellipse.
        half_axes: Half axes (y, x).
        angle: Rotation in radians, from y towards x.

    Returns:
        The transform, in the shape of `ky` and `kx` together; its value at zero is the area.
    """
    from scipy.special import j1

    a, b = half_axes
    u = ky * np.cos(angle) + kx * np.sin(angle)
    v = kx * np.cos(angle) - ky * np.sin(angle)
    q = np.hypot(a * u, b * v)
    safe = np.where(q > 1e-9, q, 1.0)
    shape = np.where(q > 1e-9, j1(2 * np.pi * safe) / safe, np.pi)
    return a * b * shape * np.exp(-2j * np.pi * (ky * centre[0] + kx * centre[1]))


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What a full disk does to this process: writing fails beyond so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_acquisitions(path: Path) -> list[Any]:
    """All acquisitions of an ISMRMRD file, by the ismrmrd package."""
    import ismrmrd

    with ismrmrd.Dataset(str(path), "dataset", mode="r") as dataset:
        return [dataset.read_acquisition(n) for n in range(dataset.number_of_acquisitions())]


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Norm of the difference over the norm of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
