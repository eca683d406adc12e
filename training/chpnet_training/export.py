"""From a training checkpoint to a model: safetensors, ONNX graphs and the card."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import ModelError
from chpnet_stream.network.card import ModelCard, TrainingData
from chpnet_stream.network.chpnet import Student, build_student
from chpnet_stream.network.denoiser import Denoiser
from chpnet_stream.network.weights import Model, find_model
from chpnet_stream.whole_file import write_whole
from chpnet_training.macs import count_macs

OPSET = 18
PARITY_SLICES = 5
PARITY_MATRIX = 128


class _Stateless(nn.Module):
    """A denoiser without state as a graph with one input and one output."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.denoiser(x)[0]
        return image


def export_denoiser(denoiser: Denoiser, path: Path) -> None:
    """Write one denoiser as an ONNX graph with half-precision weights and float32 arithmetic.

    Inputs are `x` (`batch channels y x`) and, where it keeps one, `state`; batch and matrix
    are dynamic, the matrix a multiple of the denoiser's `multiple`.

    Args:
        denoiser: The network, whose weights must be representable in float16.
        path: File to write, atomically.
    """
    from torch.export import Dim

    batch, rows, columns = Dim("batch"), Dim("rows"), Dim("columns")
    m, f = denoiser.multiple, denoiser.fold
    inputs = denoiser.head.in_channels - (denoiser.head.out_channels if denoiser.state else 0)
    x = torch.zeros(2, inputs // f**2, 5 * m, 7 * m)
    shape_x = {0: batch, 2: m * rows, 3: m * columns}
    plain = denoiser.eval()
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    arguments: tuple[Tensor, ...] = (x,)
    shapes: tuple[dict[int, Any], ...] = (shape_x,)
    names, outputs = ["x"], ["image"]
    graph: nn.Module = _Stateless(plain)
    if denoiser.state:
        state = torch.zeros(2, denoiser.head.out_channels, 5 * m // f, 7 * m // f)
        arguments, names, outputs, graph = (x, state), ["x", "state"], ["image", "features"], plain
        shapes = (shape_x, {0: batch, 2: (m // f) * rows, 3: (m // f) * columns})
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                arguments,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                input_names=names,
                output_names=outputs,
                external_data=False,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ModelError(f"{path.name}: the ONNX exporter returned nothing")
    content = _halve_weights(program.model_proto).SerializeToString()
    write_whole(path, content)


def _halve_weights(proto: Any) -> Any:
    """Store float32 weights as float16, cast back by the graph: half the size, same arithmetic."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in proto.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        half = values.astype(np.float16)
        if values.size < 256 or not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, name=f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        proto.graph.node.insert(0, cast)
    del proto.graph.value_info[:]
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.metadata_props.clear()  # traces of the exporter's machine
        part.doc_string = ""
    return proto


def round_to_half(student: Student) -> Student:
    """Round all weights to the nearest float16, in place, so that every engine has the same."""
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.copy_(parameter.half().float())
    return student


def export_checked(
    checkpoint: Path,
    folder: Path,
    *,
    score: Callable[[Engine], dict[str, dict[str, float]]],
    metrics: dict[str, dict[str, float]],
    **card: Any,
) -> Path:
    """Write a model whose graphs were compared with its weights in float64, and scored.

    Until that is done nothing is written to the folder.

    Args:
        checkpoint: As for `export_model`.
        folder: Where the model goes.
        score: Gives scores of the finished model for the card.
        metrics: More scores.
        card: Everything else for the card, as for `export_model`.

    Returns:
        Path of the card.

    Raises:
        ModelError: If the graphs don't give what the weights give.
    """
    from chpnet_stream.engines.onnx import OnnxEngine

    with tempfile.TemporaryDirectory(prefix="chpnet-export-") as place:
        made = find_model(export_model(checkpoint, Path(place), metrics={}, **card))
        made.verify()
        engine = OnnxEngine(made)
        metrics = {**score(engine), **metrics, **checked_parity(made, engine)}
        contents = {file.name: file.read_bytes() for file in made.files()}
        finished = made.card.model_copy(update={"metrics": metrics})
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_whole(folder / name, content)
    return _write_card(finished, folder)


def checked_parity(model: Model, engine: Engine) -> dict[str, dict[str, float]]:
    """What the engine's images are from those of the weights in float64, for a card.

    Raises:
        ModelError: If they are too far from them (`parity.TOLERANCES`).
    """
    from chpnet_training.parity import measure_parity, refuse, simulated_examples

    task = model.card.student.task
    examples = simulated_examples(task, PARITY_SLICES, matrix=PARITY_MATRIX)
    parity = measure_parity(model, engine, examples)
    refuse(parity, "fp32")
    return {f"{engine.name} against float64, simulated slices": parity.numbers()}


def export_model(
    checkpoint: Path,
    folder: Path,
    *,
    name: str | None = None,
    data: tuple[TrainingData, ...],
    metrics: dict[str, dict[str, float]],
    limits: tuple[str, ...],
    training: str,
    licence: str = "not stated",
    noise_factor: float = 1.0,
    cg_steps: int | None = None,
) -> Path:
    """Write the averaged student of a checkpoint as a model; `export_checked` checks it, too.

    Args:
        checkpoint: File of `chpnet_training.trainer`.
        folder: Where the card and the files go.
        name: Name of the model; by default the recipe's.
        data: Training data for the card.
        metrics: Scores for the card.
        limits: What the model was not made for.
        training: How it was trained, in words.
        licence: Licence of the weights.
        noise_factor: What the noise level is multiplied with before the network is told.
        cg_steps: Conjugate-gradient steps of an iteration; by default those of the training.

    Returns:
        Path of the card.
    """
    from safetensors.torch import save

    from chpnet_training.checkpoint import load_network, read_checkpoint, stored_recipe
    from chpnet_training.dataset import START_ITERATIONS, START_REGULARIZATION
    from chpnet_training.provenance import all_steps

    state = read_checkpoint(checkpoint)
    recipe = stored_recipe(state, checkpoint)
    student = build_student(recipe.student)
    load_network(student, "student", checkpoint)
    round_to_half(student.eval())
    name = name or recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.half().contiguous() for key, value in student.state_dict().items()}
    content = save(weights)
    write_whole(folder / f"{name}.safetensors", content)
    sums = []
    for i, denoiser in enumerate(student.denoisers):
        if not isinstance(denoiser, Denoiser):
            raise ModelError(f"expected a Denoiser, found {type(denoiser).__name__}")
        path = folder / f"{name}.{i}.onnx"
        export_denoiser(denoiser, path)
        sums.append(hashlib.sha256(path.read_bytes()).hexdigest())
    card = ModelCard(
        name=name,
        student=(
            recipe.student
            if cg_steps is None
            else recipe.student.model_copy(update={"cg_steps": cg_steps})
        ),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        onnx_sha256=tuple(sums),
        parameters=sum(p.numel() for p in student.parameters()),
        gmac_320=round(count_macs(student, 320, 320, recipe.student.channels) / 1e9, 3),
        start_iterations=START_ITERATIONS,
        start_regularization=START_REGULARIZATION,
        data=data,
        recipe=recipe.model_dump(mode="json"),
        steps=all_steps(state),
        seed=recipe.seed,
        metrics=metrics,
        licence=licence,
        limits=limits,
        training=training,
        noise_factor=noise_factor,
    )
    return _write_card(card, folder)


def _write_card(card: ModelCard, folder: Path) -> Path:
    path = folder / f"{card.name}.json"
    write_whole(path, card.model_dump_json(indent=2) + "\n")
    return path
