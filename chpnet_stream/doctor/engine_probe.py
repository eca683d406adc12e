"""A process of its own that runs engines: it may hang or crash, and the doctor goes on.

`python -m chpnet_stream.doctor.engine_probe MODEL MATRIX FOLDER ENGINE...` writes one JSON object a
line: first what PyTorch finds, then one for every engine.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

COILS = 8
ACCELERATION = 4
SLICES = 6


def main(words: list[str]) -> None:
    """Runs the engines that are named."""
    model, matrix, folder, *engines = words
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    _say({"torch": _torch()})
    path = _scan(Path(folder), int(matrix))
    for name in engines:
        started = time.perf_counter()
        try:
            told = _try(name, model, path)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            told = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        _say({"engine": name, "seconds": round(time.perf_counter() - started, 2), **told})


def _say(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _torch() -> dict[str, Any]:
    import torch

    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            major, minor = torch.cuda.get_device_capability(index)
            gpus.append(
                {
                    "name": torch.cuda.get_device_name(index),
                    "capability": f"sm_{major}{minor}",
                    "free_gb": round(free / 2**30, 1),
                    "total_gb": round(total / 2**30, 1),
                }
            )
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _scan(folder: Path, matrix: int) -> Path:
    """A simulated scan; the first slice is for warming up."""
    from chpnet_stream.simulation.options import SimulationOptions
    from chpnet_stream.simulation.scan import simulate_scan

    path = folder / "scan.h5"
    if not path.exists():
        options = SimulationOptions(
            matrix=(matrix, matrix), slices=1, repetitions=SLICES, coils=COILS,
            acceleration=ACCELERATION,
        )  # fmt: skip
        simulate_scan(path, options)
    return path


def _try(name: str, model_name: str, path: Path) -> dict[str, Any]:
    """Load an engine, and reconstruct the scan by it."""
    from chpnet_stream.engines.allowed import PLAN_ENGINES
    from chpnet_stream.engines.choice import make_engine
    from chpnet_stream.engines.stand_in import reason_of
    from chpnet_stream.mrd.files import ScanFile
    from chpnet_stream.network.weights import find_model
    from chpnet_stream.options import ReconstructionOptions
    from chpnet_stream.session import Session

    model = find_model(model_name)
    started = time.perf_counter()
    # Plans that are not there yet are not made now: that takes minutes.
    engine = _planned(name, model) if name in PLAN_ENGINES else make_engine(name, model)
    loaded = time.perf_counter() - started
    with ScanFile(path) as scan:
        session = Session(scan.header, ReconstructionOptions(model=model_name), engine)
        images = list(session.images(scan.acquisitions()))
    fallbacks = [image.result.fallback for image in images if image.result.fallback]
    if fallbacks:
        raise RuntimeError(fallbacks[0])
    networks = sorted(image.result.milliseconds["network"] for image in images[1:])
    slices = sorted(image.latency_ms for image in images[1:])
    middle = len(slices) // 2
    return {
        "name": images[-1].result.engine,
        "reason": reason_of(engine),
        "device": str(engine.device),
        "load_s": round(loaded, 2),
        "first_ms": round(images[0].latency_ms, 1),
        "network_ms": round(networks[middle], 1),
        "slice_ms": round(slices[middle], 1),
    }


def _planned(name: str, model: Any) -> Any:
    import torch

    from chpnet_stream.engines.tensorrt import TensorRTEngine
    from chpnet_stream.errors import EngineError

    if not torch.cuda.is_available():
        raise EngineError("PyTorch finds no NVIDIA GPU here")
    return TensorRTEngine(model, torch.device("cuda"), package=name, precision="fp16", build=False)


if __name__ == "__main__":
    main(sys.argv[1:])
