"""Which engine runs, in which precision: the one asked for, or the best that this machine has."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch

from chpnet_stream.engines.allowed import PLAN_ENGINES, PRECISIONS, check_allowed, find
from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.failures import FOREIGN, NoPlansError, NotInstalledError, told
from chpnet_stream.engines.processor import has_bfloat16
from chpnet_stream.engines.stand_in import StandIn
from chpnet_stream.engines.with_spare import WithSpare
from chpnet_stream.errors import ConfigurationError, EngineError, ModelError
from chpnet_stream.near import hint
from chpnet_stream.network.weights import Model

EngineName = Literal["auto", "onnx", "openvino", "pytorch", "tensorrt", "tensorrt-rtx"]
ENGINES: tuple[str, ...] = get_args(EngineName)

DRIVER = Path("/proc/driver/nvidia/version")
"""There where NVIDIA's driver is loaded; also in a container that was not given the GPU."""

logger = logging.getLogger(__name__)


def default_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _misses_gpu() -> bool:
    """Whether there is a GPU that PyTorch was built for and can't use, and nobody hides it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return torch.version.cuda is not None and DRIVER.exists() and not hidden


def make_engine(
    name: str, model: Model, device: torch.device | None = None, precision: str = "auto"
) -> Engine:
    """Load a model into an engine.

    Args:
        name: "auto" takes, on a GPU, TensorRT plans that are there already, else PyTorch; on a CPU
            PyTorch in bf16 where the CPU has such instructions, else ONNX Runtime; and tells by a
            warning when it must take another than that, or this machine has a GPU that PyTorch
            can't use. `tensorrt` and `tensorrt-rtx` fall back to PyTorch on the GPU and then to
            what a CPU has, and so does `pytorch` on a GPU, by a warning and by the engine's name
            (`stand_in.reason_of` has the reason). Another name takes that engine or fails.
        model: The model.
        device: Device of the PyTorch engine and of "auto"; by default the GPU if there is one.
        precision: Of the denoisers (`engines.allowed`); "auto" is fp16 for TensorRT; bf16 for
            PyTorch and OpenVINO on a CPU that has such instructions; else fp32.

    Raises:
        EngineError: If the engine is unknown or can't be used here.
        ConfigurationError: If the engine doesn't have this precision.
        ModelError: If the model's files are damaged.
    """
    if name not in ENGINES:
        raise EngineError(f"expected an engine of {', '.join(ENGINES)}, found '{name}'")
    if precision not in ("auto", *PRECISIONS):
        known = ("auto", *PRECISIONS)
        raise ConfigurationError(f"no precision '{precision}'; {hint(precision, known)}")
    if device is None:
        device = default_device()
        if device.type == "cpu" and name in ("auto", "pytorch") and _misses_gpu():
            logger.warning(
                "PyTorch can't use the GPU of this machine: networks run on the CPU, which is "
                "slower; see `chpnet-stream doctor`"
            )
    if name in PLAN_ENGINES:
        return _with_plans(name, model, device, precision)
    if device.type == "cuda" and name == "auto":
        return _on_gpu(model, device, precision)
    if device.type == "cuda" and name == "pytorch":
        check_allowed(name, "fp32" if precision == "auto" else precision, device.type)
        return _without_plans(model, device, precision)
    if name != "auto":
        return _named(name, model, device, precision)
    return _on_cpu(model, precision)


def _named(name: str, model: Model, device: torch.device, precision: str) -> Engine:
    """An engine that needs no plans, at its word."""
    target = device.type if name == "pytorch" else "cpu"
    if precision == "auto":
        quick = name in ("pytorch", "openvino") and target == "cpu" and has_bfloat16()
        precision = "bf16" if quick else "fp32"
    check_allowed(name, precision, target)
    if precision == "bf16" and not has_bfloat16():
        logger.warning(
            "this CPU has no bfloat16 instructions, and computes in bf16 at half the speed of fp32 "
            "or less; expected precision auto or fp32 here"
        )
    if name == "pytorch":
        from chpnet_stream.engines.pytorch import PyTorchEngine

        return PyTorchEngine(model, device, precision=precision)
    if name == "openvino":
        from chpnet_stream.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(model, precision=precision)
    from chpnet_stream.engines.onnx import OnnxEngine

    return OnnxEngine(model, precision=precision)


def _on_cpu(model: Model, precision: str) -> Engine:
    cpu = torch.device("cpu")
    if precision == "bf16" or (precision == "auto" and has_bfloat16()):
        return _named("pytorch", model, cpu, "bf16")
    precision = "fp32" if precision == "auto" else precision
    try:
        return _named("onnx", model, cpu, precision)
    except (EngineError, ModelError, *FOREIGN) as error:
        if precision != "fp32":
            raise
        logger.warning("%s; using PyTorch on the CPU instead", told("onnx", error))
        return _named("pytorch", model, cpu, precision)


def _on_gpu(model: Model, device: torch.device, precision: str) -> Engine:
    """TensorRT where a plan is ready: making one may take minutes, which only a name asks for."""
    from chpnet_stream.engines.tensorrt import TensorRTEngine

    wanted = _plan_precision(precision)
    if not any(find(name, wanted).targets for name in PLAN_ENGINES):
        raise EngineError(
            f"engine auto has no {precision} on a GPU: {find('pytorch', precision).why}; expected "
            "precision auto"
        )
    failed, reasons = "", []
    for name in PLAN_ENGINES:
        try:
            made = TensorRTEngine(model, device, package=name, precision=wanted, build=False)
        except (NotInstalledError, ConfigurationError) as error:
            logger.info("%s", error)
        except NoPlansError as error:
            reasons.append(str(error))
        except (EngineError, ModelError, *FOREIGN) as error:
            failed = failed or name
            reasons.append(told(name, error))
        else:
            if failed:
                logger.warning("%s; %s is used", "; ".join(reasons), made.name)
            return _spared(made, model, device)
    if precision not in ("auto", "fp32"):
        raise EngineError(
            f"expected plans of precision {precision} for engine auto on a GPU, found "
            f"{'; '.join(reasons) or 'none'}; make them by `chpnet-train compile`, or ask for "
            "engine tensorrt"
        )
    if failed:
        return _without_plans(model, device, precision, failed, reasons)
    for reason in reasons:
        logger.warning("%s; meanwhile PyTorch is used, which is slower", reason)
    return _without_plans(model, device, precision)


def _with_plans(name: str, model: Model, device: torch.device, precision: str) -> Engine:
    """TensorRT, else PyTorch on the GPU, else what a CPU has in fp32: each step is told."""
    from chpnet_stream.engines.tensorrt import TensorRTEngine

    try:
        made = TensorRTEngine(model, device, package=name, precision=_plan_precision(precision))
        return _spared(made, model, device)
    except ConfigurationError as error:
        if precision != "auto":
            raise
        reason = str(error)
    except (EngineError, ModelError, *FOREIGN) as error:
        reason = told(name, error)
    return _without_plans(model, device, "fp32", name, [reason])


def _without_plans(
    model: Model,
    device: torch.device,
    precision: str,
    wanted: str = "",
    reasons: Sequence[str] = (),
) -> Engine:
    """PyTorch on the GPU, else what a CPU has; each step from what is wanted is told.

    Args:
        model: The model.
        device: The GPU; a CPU where there is none.
        precision: Of the CPU's engine; on a GPU it is fp32.
        wanted: What failed before; by default PyTorch on the GPU is what is wanted.
        reasons: Why that failed.

    Raises:
        ModelError: If the model's weights are damaged.
    """
    reasons = list(reasons)
    other: Engine | None = None
    if device.type == "cuda":
        try:
            other = _named("pytorch", model, device, "fp32")
        except (EngineError, *FOREIGN) as error:
            wanted = wanted or "pytorch-cuda"
            reasons.append(told("pytorch-cuda", error))
    if other is None:
        other = _on_cpu(model, precision)
    if not wanted:
        return other
    found = StandIn(other, wanted, "; ".join(reasons))
    logger.warning("%s; %s is used", found.reason, found.name)
    return found


def _spared(engine: Engine, model: Model, device: torch.device) -> Engine:
    """PyTorch takes over where plans that were loaded fail in a scan."""
    return WithSpare(engine, lambda: _named("pytorch", model, device, "fp32"))


def _plan_precision(precision: str) -> str:
    return "fp16" if precision == "auto" else precision
