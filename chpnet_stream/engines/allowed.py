"""What each engine can do in which precision on which processor: one table.

Help texts, error messages and docs/engines.md are made of it. Imports nothing heavy, since
`--help` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.near import hint

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
PLAN_ENGINES = ("tensorrt", "tensorrt-rtx")
"""Engines that run plans: networks compiled for one kind of GPU."""

RTX_TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
TENSORRT_TARGETS = (
    *("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90"),
    *("sm_100", "sm_103", "sm_110", "sm_120", "sm_121"),
)


@dataclass(frozen=True)
class Allowance:
    """One engine with one precision.

    Attributes:
        engine: Name of the engine.
        precision: Arithmetic of the denoisers; data consistency is float32 always.
        targets: Where it may run: "cpu", "cuda" (any GPU of PyTorch), or compute capabilities.
        why: Why elsewhere it may not.
    """

    engine: str
    precision: str
    targets: tuple[str, ...]
    why: str


ALLOWED: tuple[Allowance, ...] = (
    Allowance("pytorch", "fp32", ("cpu", "cuda"), ""),
    Allowance(
        "pytorch",
        "bf16",
        ("cpu",),
        "on a GPU it is not measured; fp16 plans are what is meant for it",
    ),
    Allowance("pytorch", "fp16", (), "half precision is what TensorRT plans are for"),
    Allowance("pytorch", "int8", (), "PyTorch has no int8 convolutions for these graphs"),
    Allowance("onnx", "fp32", ("cpu",), "the package onnxruntime is the CPU's"),
    Allowance("onnx", "fp16", (), "CPUs convert every half-precision number, which is slower"),
    Allowance("onnx", "bf16", (), "ONNX Runtime has no bf16 convolutions on a CPU"),
    Allowance("onnx", "int8", (), "it loses half a dB and gains no time"),
    Allowance("openvino", "fp32", ("cpu",), "it is used for the CPU only"),
    Allowance("openvino", "fp16", (), "a CPU computes it in fp32 or bf16; ask for one of these"),
    Allowance("openvino", "bf16", ("cpu",), "it is used for the CPU only"),
    Allowance("openvino", "int8", (), "it loses several dB with the same graphs as ONNX Runtime"),
    Allowance("tensorrt", "fp32", TENSORRT_TARGETS, "TensorRT 10 and 11 begin at sm_75"),
    Allowance("tensorrt", "fp16", TENSORRT_TARGETS, "TensorRT 10 and 11 begin at sm_75"),
    Allowance("tensorrt", "bf16", (), "fp16 is as fast and three bits finer"),
    Allowance("tensorrt", "int8", TENSORRT_TARGETS, "TensorRT 10 and 11 begin at sm_75"),
    Allowance("tensorrt-rtx", "fp32", RTX_TARGETS, "TensorRT for RTX 1.7 compiles for no others"),
    Allowance("tensorrt-rtx", "fp16", RTX_TARGETS, "TensorRT for RTX 1.7 compiles for no others"),
    Allowance("tensorrt-rtx", "bf16", (), "fp16 is as fast and three bits finer"),
    Allowance(
        "tensorrt-rtx",
        "int8",
        (),
        "TensorRT for RTX has int8 for the weights of matrix products only, not for convolutions",
    ),
)


def engines() -> tuple[str, ...]:
    """All engines, in the order of the table."""
    return tuple(dict.fromkeys(row.engine for row in ALLOWED))


def find(engine: str, precision: str) -> Allowance:
    """The row of an engine and a precision.

    Raises:
        ConfigurationError: If there is no such engine or precision.
    """
    for row in ALLOWED:
        if (row.engine, row.precision) == (engine, precision):
            return row
    if engine not in engines():
        raise ConfigurationError(f"no engine '{engine}'; {hint(engine, engines())}")
    raise ConfigurationError(f"no precision '{precision}'; {hint(precision, PRECISIONS)}")


def check_allowed(engine: str, precision: str, target: str) -> None:
    """Refuse what the table doesn't have, with the reason and what is nearest to it.

    Args:
        engine: Of the table.
        precision: Of the table.
        target: "cpu", "cuda" or a compute capability as `sm_86`.

    Raises:
        ConfigurationError: As said.
    """
    row = find(engine, precision)
    if target not in row.targets:
        raise ConfigurationError(
            f"{engine} has no {precision} on {target}: {row.why}; expected "
            f"{_nearest(engine, precision, target)}"
        )


def precisions_of(engine: str, target: str) -> tuple[str, ...]:
    """Precisions that an engine has on a target, plainest first."""
    return tuple(row.precision for row in ALLOWED if row.engine == engine and target in row.targets)


def _nearest(engine: str, precision: str, target: str) -> str:
    """The nearest that is allowed, in words."""
    row = find(engine, precision)
    if row.targets and target.startswith("sm_"):
        others = sorted(row.targets, key=lambda name: abs(_number(name) - _number(target)))
        found = [f"--target {others[0]}" if others[0].startswith("sm_") else others[0]]
    else:
        there = precisions_of(engine, target)  # int8 costs quality: nobody is sent there
        better = [name for name in there if name != "int8"] or there
        found = [f"precision {name}" for name in better[-1:]]
    found += [
        f"engine {other.engine}"
        for other in ALLOWED
        if other.precision == precision and target in other.targets
    ]
    return " or ".join(found) if found else "another engine, see `chpnet-train compile --help`"


def _number(target: str) -> int:
    digits = target.removeprefix("sm_")
    return int(digits) if digits.isdecimal() else 0


def table_rows(only: Sequence[str] = ()) -> list[tuple[str, str, str, str]]:
    """The table for people: engine, precision, where, what else.

    Args:
        only: Engines to show; all by default.
    """
    return [
        (row.engine, row.precision, " ".join(row.targets) or "not offered", row.why)
        for row in ALLOWED
        if not only or row.engine in only
    ]


def table_markdown() -> str:
    """The whole table for docs/engines.md."""
    lines = ["| engine | precision | where | why not elsewhere |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in table_rows()]
    return "\n".join(lines)
