"""Denoisers as graphs: what an engine puts where a `Denoiser` stood in the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional

from chpnet_stream.errors import ModelError
from chpnet_stream.network.chpnet import Student
from chpnet_stream.network.denoiser import Denoiser
from chpnet_stream.network.weights import Model

SCALED_PRECISIONS = ("fp16", "int8")
"""Precisions whose graphs are given inputs with a peak of about one."""


class Graph(Protocol):
    """One loaded graph."""

    def __call__(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Run it.

        Args:
            x: `batch inputs y x`, contiguous float32, rows and columns divisible.
            state: `batch width y/fold x/fold`, contiguous float32; None where it keeps none.

        Returns:
            Image and features, float32; no features where it keeps no state.

        Raises:
            EngineError: If it fails.
        """


class GraphDenoiser(nn.Module):
    """Stands where a `Denoiser` stood, and runs its graph.

    Half precision ends at 65504, and eight bits have one scale for every input. The denoiser is
    homogeneous, V(a x) = a V(x), so with `scaled` it is given its input divided by a power of two
    near the largest magnitude, and what it says is multiplied by that: exact in floating point.

    Args:
        graph: The loaded graph.
        denoiser: What it replaces.
        scaled: Whether inputs are brought to a peak from one half to one.
    """

    def __init__(self, graph: Graph, denoiser: Denoiser, *, scaled: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self.multiple = denoiser.multiple
        self.state = denoiser.state
        self.state_shape = (denoiser.head.out_channels, denoiser.fold)
        self.scaled = scaled

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Denoiser.forward`."""
        rows, columns = x.shape[2:]
        padded = functional.pad(x, (0, -columns % self.multiple, 0, -rows % self.multiple))
        if self.state and state is None:
            channels, fold = self.state_shape
            shape = (padded.shape[2] // fold, padded.shape[3] // fold)
            state = padded.new_zeros(padded.shape[0], channels, *shape)
        if not self.scaled:
            image, features = self._run(padded, state)
            return image[..., :rows, :columns], features
        peak = padded.abs().amax(dim=(1, 2, 3), keepdim=True)
        unit = peak.clamp_min(1e-30).log2().ceil().exp2()
        image, features = self._run(padded / unit, None if state is None else state / unit)
        image = image[..., :rows, :columns] * unit
        return image, None if features is None else features * unit

    def _run(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        state = state.contiguous() if self.state and state is not None else None
        return self.graph(x.contiguous(), state)


def replace_denoisers(
    student: Student, model: Model, precision: str, load: Callable[[str, bytes], Graph]
) -> None:
    """Put the graphs of a model where the student's denoisers are.

    Args:
        student: The student, changed in place.
        model: The model that it is of.
        precision: Of the graphs: "fp32", "fp16" or "int8".
        load: Loads a graph by its file's name and its content as ONNX, checked against the card.

    Raises:
        ModelError: If a file is missing or damaged, or the model has no graphs of this precision.
        EngineError: If a graph can't be loaded.
    """
    contents = model.graphs("fp32" if precision == "fp16" else precision)
    if len(contents) != len(student.denoisers):
        raise ModelError(
            f"{model.card.name}: expected {len(student.denoisers)} ONNX graphs, one for each "
            f"denoiser, found {len(contents)} in the card; export the model again"
        )
    graphs: list[nn.Module] = []
    for denoiser, (name, content) in zip(student.denoisers, contents, strict=True):
        if not isinstance(denoiser, Denoiser):
            raise ModelError(
                f"{model.card.name}: expected a Denoiser, found {type(denoiser).__name__}"
            )
        scaled = precision in SCALED_PRECISIONS
        graphs.append(GraphDenoiser(load(name, content), denoiser, scaled=scaled))
    student.denoisers = nn.ModuleList(graphs)
