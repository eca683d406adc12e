"""Engines, each with a timed dry run, in a process that may hang or crash."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import IO, Any

from chpnet_stream.doctor.finding import Finding
from chpnet_stream.doctor.run import answer_of
from chpnet_stream.engines.allowed import PLAN_ENGINES

MODULE = "chpnet_stream.doctor.engine_probe"
PACKAGES = {
    "onnx": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "chpnet-stream[openvino]"),
    "tensorrt": ("tensorrt", "chpnet-stream[tensorrt]"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt-rtx-cu13"),
}
NAMES = ("auto", "onnx", "pytorch", "openvino", "tensorrt", "tensorrt-rtx")
ALWAYS = ("auto", "onnx", "pytorch")
"""What every installation has, and so must work."""


def engine_findings(
    model: str, matrix: int, seconds: float, engines: Sequence[str] = NAMES
) -> Iterator[Finding]:
    """PyTorch and its GPUs, then every engine.

    Args:
        model: Model of the dry runs.
        matrix: Matrix of the dry runs.
        seconds: An engine that takes longer is given up.
        engines: Which to look at.
    """
    waiting, missing = [], []
    for name in engines:
        package, install = PACKAGES.get(name, ("torch", "torch"))
        if find_spec(package) is None and name not in ALWAYS:
            found = f"the package {package} is not installed"
            advice = f"if wanted: pip install '{install}'"
            missing.append(Finding("engines", name, "info", found, advice))
        else:
            waiting.append(name)
    with tempfile.TemporaryDirectory(prefix="chpnet-doctor-") as folder:
        torch_told = False
        while waiting:
            for record in _probe([model, str(matrix), folder], list(waiting), seconds):
                if "torch" in record:
                    if not torch_told:
                        yield from _torch(record["torch"])
                    torch_told = True
                    continue
                name = record.get("engine", waiting[0])
                waiting.remove(name)
                yield _engine(name, record, matrix)
    yield from missing


def _probe(
    words: Sequence[str], engines: Sequence[str], seconds: float
) -> Iterator[dict[str, Any]]:
    """Run the process; gives what it says, and where it dies or is silent the reason."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", MODULE, *words, *engines],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert process.stdout is not None  # noqa: S101 - asked for above
        lines: queue.Queue[bytes] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        wanted = len(engines)
        try:
            while wanted:
                line = lines.get(timeout=seconds)
                if not line:
                    yield {"error": _death(process, log)}
                    return
                record = json.loads(line)
                wanted -= "engine" in record
                yield record
        except queue.Empty:
            yield {"error": f"no end within {seconds:g} s", "hangs": True}
        finally:
            process.kill()
            process.wait()
            reader.join(5)
            process.stdout.close()


def _death(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    status = process.wait(10)
    log.seek(0)
    last = log.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    return f"the process ended {how}{f': {last[-1]}' if last else ''}"


def _read(stream: IO[bytes], lines: queue.Queue[bytes]) -> None:
    """Hand on the lines; an empty one is the end."""
    for line in stream:
        if line.startswith(b"{"):  # a library may print there, too
            lines.put(line)
    lines.put(b"")


def _torch(told: dict[str, Any]) -> Iterator[Finding]:
    yield Finding(
        "engines",
        "torch",
        "ok",
        f"{told['version']}, {told['threads']} threads, CUDA {told['cuda'] or 'not built in'}",
        values=told,
    )
    for gpu in told["gpus"]:
        found = f"{gpu['name']} ({gpu['capability']}), {gpu['free_gb']} of {gpu['total_gb']} GB"
        level = "ok" if gpu["free_gb"] >= 1 else "warn"
        advice = "" if level == "ok" else "end what else uses the GPU"
        yield Finding("engines", "GPU", level, f"{found} free", advice)  # type: ignore[arg-type]
    if not told["gpus"]:
        yield _no_gpu(told)


def _no_gpu(told: dict[str, Any]) -> Finding:
    """PyTorch finds no GPU: there is none, or it can't use the one that is there."""
    found = "PyTorch finds none: networks run on the CPU"
    program = shutil.which("nvidia-smi")
    status, text = answer_of([program, "--list-gpus"]) if program else (None, "")
    names = [line.partition(" (UUID")[0] for line in text.splitlines() if line.startswith("GPU ")]
    if status != 0 or not names:
        return Finding("engines", "GPU", "info", found)
    advice = (
        "install a PyTorch with CUDA (this one has none): pip install --force-reinstall torch"
        if told["cuda"] is None
        else f"update the NVIDIA driver to one for CUDA {told['cuda']}; see CUDA_VISIBLE_DEVICES"
    )
    return Finding("engines", "GPU", "warn", f"{found}, but there is {'; '.join(names)}", advice)


def _engine(name: str, record: dict[str, Any], matrix: int) -> Finding:
    if "error" not in record:
        found = (
            f"{record['name']} on {record['device']}: a slice of {matrix} x {matrix} in "
            f"{record['slice_ms']:.0f} ms (network {record['network_ms']:.0f} ms; first "
            f"{record['first_ms']:.0f} ms, loaded in {record['load_s']:.1f} s)"
        )
        reason = record.get("reason")
        if not reason:
            return Finding("engines", name, "ok", found, values=record)
        advice = "free the GPU's memory, or repair what is named there"
        return Finding("engines", name, "warn", f"{found}, because {reason}", advice, record)
    error = record["error"]
    if name in PLAN_ENGINES and not record.get("hangs"):
        advice = (
            f"on an NVIDIA GPU: --engine {name} makes plans for it at its first start, or "
            "`chpnet-train compile` (extra train) beforehand"
        )
        return Finding("engines", name, "info", error, advice, record)
    needed = name in ALWAYS
    return Finding(
        "engines",
        name,
        "fail" if needed else "warn",
        error,
        "install chpnet-stream again in a new environment; --debug of offline tells more"
        if needed
        else "leave it out: --engine auto doesn't need it",
        record,
    )
