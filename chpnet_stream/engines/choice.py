"""Which engine runs: the one asked for, or the best that this machine has."""

from __future__ import annotations

import logging
from typing import Literal, get_args

import torch

from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import Model

EngineName = Literal["auto", "onnx", "pytorch"]
ENGINES: tuple[str, ...] = get_args(EngineName)

logger = logging.getLogger(__name__)


def default_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_engine(name: str, model: Model, device: torch.device | None = None) -> Engine:
    """Load a model into an engine.

    Args:
        name: "auto" takes PyTorch on a GPU and ONNX Runtime on a CPU, and tells by a warning
            when it must take another than that; a name takes that engine or fails.
        model: The model.
        device: Device of the PyTorch engine and of "auto"; by default the GPU if there is one.

    Raises:
        EngineError: If the engine is unknown or can't be used here.
        ModelError: If the model's files are damaged.
    """
    from chpnet_stream.engines.onnx import OnnxEngine
    from chpnet_stream.engines.pytorch import PyTorchEngine

    device = device or default_device()
    if name == "pytorch" or (name == "auto" and device.type != "cpu"):
        return PyTorchEngine(model, device)
    if name == "onnx":
        return OnnxEngine(model)
    if name == "auto":
        try:
            return OnnxEngine(model)
        except EngineError as error:
            logger.warning("%s; using PyTorch on the CPU instead", error)
            return PyTorchEngine(model, device)
    raise EngineError(f"expected an engine of {', '.join(ENGINES)}, found '{name}'")
