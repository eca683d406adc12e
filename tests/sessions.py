"""Whole scans through a session, engines that fail on purpose, and the truth to compare with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.network.weights import find_model
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.session import Session, SessionImage
from chpnet_stream.similarity import compare
from chpnet_stream.simulation.scan import simulate_scan
from tests.helpers import small_options
from tests.network.models import tiny_config, untrained, write_model


def simulated(folder: Path, **changes: Any) -> Path:
    """A small simulated scan."""
    path = folder / "scan.h5"
    simulate_scan(path, small_options(**changes))
    return path


def run(
    path: Path,
    engine: Engine | None = None,
    keep: Callable[[Any], bool] = lambda acquisition: True,
    **options: Any,
) -> tuple[Session, list[SessionImage]]:
    """All images of a scan, of which only the acquisitions that `keep` likes are fed."""
    options.setdefault("method", "cg-sense" if engine is None else "chpnet")
    with ScanFile(path) as scan:
        session = Session(scan.header, ReconstructionOptions(**options), engine)
        return session, list(session.images(filter(keep, scan.acquisitions())))


def quiet_engine(folder: Path) -> PyTorchEngine:
    """A network whose denoisers propose no change: near CG-SENSE, and fit to be sent."""
    model = find_model(write_model(folder, untrained(tiny_config(), strength=0.0)))
    return PyTorchEngine(model, torch.device("cpu"))


class FaultyEngine:
    """Does what `fault` makes of the problem, from the run `after` on; before that, no change."""

    def __init__(self, like: Engine, fault: Callable[[Problem], Tensor], after: int = 0) -> None:
        self.name, self.card, self.device = "faulty", like.card, like.device
        self.like, self.fault, self.after, self.runs = like, fault, after, 0

    def run(self, problem: Problem) -> Tensor:
        self.runs += 1
        return self.like.run(problem) if self.runs <= self.after else self.fault(problem)


def white_truth(session: Session, path: Path, image: SessionImage) -> NDArray[np.float64]:
    """Noise-free image of a simulated slice, shaded by the whitened coils, in noise deviations."""
    contrast, number = image.data.counters["contrast"], image.data.counters["slice"]
    with h5py.File(path) as file:
        truth = file["dataset/truth/images" + (f"_{contrast}" if contrast else "")][number]
        maps = file["dataset/truth/coil_maps"][number]
    whitening = session.reconstructor.calibration.whitening(image.data).numpy()
    white = np.tensordot(whitening, maps, 1)
    return truth * np.sqrt((np.abs(white) ** 2).sum(0) / (np.abs(maps) ** 2).sum(0))


def decibels(session: Session, path: Path, images: list[SessionImage]) -> float:
    """Lowest PSNR of the images against the truth."""
    found = [compare(i.result.image, white_truth(session, path, i)).psnr for i in images]
    return min(found)
