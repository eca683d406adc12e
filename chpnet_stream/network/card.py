"""Model cards: what a model is, what it was trained on, and the checksums of its files."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from chpnet_stream.network.config import StudentConfig
from chpnet_stream.network.gate_limits import GateLimits


class TrainingData(BaseModel):
    """One source of training images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    licence: str
    images: int = Field(ge=0)


class PlanRecord(BaseModel):
    """TensorRT plans that lie beside a card: one for each denoiser, of one kind.

    Attributes:
        key: Checksum of what they are made from and for (`engines.plan_key.PlanKey`).
        package: The package that made them and can load them.
        version: Its version.
        target: Compute capability of the GPUs that can run them, as `sm_86`.
        precision: Of their arithmetic.
        shapes: Smallest, usual and largest `batch rows columns`.
        files: Checksums of the plans by the names of their files.
        parity: What was measured of this precision before it was written, in dB.
        measured_on: What ran the parity report: this plan on a GPU, or its graph on a CPU.
        tolerance: Largest loss of quality that was allowed, in dB.
        overridden: Whether that was another one than the table's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    package: str
    version: str
    target: str
    precision: str
    shapes: tuple[str, str, str]
    files: dict[str, str]
    parity: dict[str, float]
    measured_on: str
    tolerance: float
    overridden: bool = False


class ModelCard(BaseModel):
    """The card that lies beside a model's files, as `<name>.json`.

    Attributes:
        name: Name of the model, also the beginning of its files' names.
        format: Version of this layout.
        student: Architecture.
        weights_sha256: Checksum of `<name>.safetensors`.
        onnx_sha256: Checksums of `<name>.<i>.onnx`, one for each denoiser.
        int8_sha256: Checksums of `<name>.int8.<i>.onnx`, where such were made.
        plans: TensorRT plans beside the card.
        gate: Limits of the checks of its images; wide ones where the card has none.
        parameters: Number of weights.
        gmac_320: Multiply-accumulates in convolutions for a 320 x 320 slice, in 10^9.
        start_iterations: CG-SENSE iterations of the starting image it was trained with.
        start_regularization: CG-SENSE regularization of that image.
        noise_factor: The network is told this multiple of the noise level. Below one it
            trusts the data more than simulated training scans taught it to.
        data: What it was trained on.
        recipe: The recipe, as the training program read it.
        steps: Optimizer steps done.
        seed: Seed of the training.
        metrics: Scores with the names of the data they were measured on.
        licence: Licence of the weights.
        limits: What it was not made or tested for.
        training: How it was trained: alone, or by which distillation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    format: Literal[1] = 1
    student: StudentConfig
    weights_sha256: str
    onnx_sha256: tuple[str, ...]
    parameters: int
    gmac_320: float
    start_iterations: int = Field(ge=1, le=1000)
    start_regularization: float = Field(ge=0)
    noise_factor: float = Field(1.0, gt=0)
    data: tuple[TrainingData, ...]
    recipe: dict[str, object]
    steps: int
    seed: int
    metrics: dict[str, dict[str, float]]
    licence: str
    limits: tuple[str, ...]
    training: str
    int8_sha256: tuple[str, ...] = ()
    plans: tuple[PlanRecord, ...] = ()
    gate: GateLimits = GateLimits()

    def graph_sums(self, precision: str) -> tuple[str, ...]:
        """Checksums of the ONNX graphs of a precision that are kept in files; () for none."""
        return {"fp32": self.onnx_sha256, "int8": self.int8_sha256}.get(precision, ())

    @property
    def checksum(self) -> str:
        """Short checksum that identifies the weights in headers and tables."""
        return self.weights_sha256[:12]
