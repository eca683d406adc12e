"""Untrained students and model files, for the tests of networks and engines."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save

from chpnet_stream.network.card import ModelCard
from chpnet_stream.network.chpnet import CHPNet, Student, build_student
from chpnet_stream.network.config import StudentConfig

TINY = {"widths": (4, 8), "iterations": 2}
ARCHITECTURES = ("chpnet", "chpnet-rt")
TASKS = ("kspace", "superres")


def tiny_config(architecture: str = "chpnet-rt", task: str = "kspace") -> StudentConfig:
    """The smallest student of its kind that has all of its parts."""
    return StudentConfig(architecture=architecture, task=task, **TINY)


def untrained(config: StudentConfig, strength: float = 10.0) -> Student:
    """A student with random weights whose denoisers do something: their ends are scaled up."""
    torch.manual_seed(11)
    student = build_student(config)
    with torch.no_grad():
        for denoiser in student.denoisers:
            denoiser.tail.weight.mul_(strength)
        if isinstance(student, CHPNet):
            student.eta.fill_(1.0)
    return student


def write_model(folder: Path, student: Student, name: str = "tiny") -> Path:
    """Card and weights of a student, without ONNX graphs; returns the card's path."""
    content = save({key: value.half() for key, value in student.state_dict().items()})
    (folder / f"{name}.safetensors").write_bytes(content)
    card = ModelCard(
        name=name,
        student=student.config,
        weights_sha256=hashlib.sha256(content).hexdigest(),
        onnx_sha256=(),
        parameters=sum(p.numel() for p in student.parameters()),
        gmac_320=0.1,
        start_iterations=6,
        start_regularization=0.01,
        data=(),
        recipe={},
        steps=0,
        seed=0,
        metrics={},
        licence="MIT",
        limits=("not trained",),
        training="not trained",
    )
    path = folder / f"{name}.json"
    path.write_text(card.model_dump_json(indent=2), encoding="utf-8")
    return path


def write_checkpoint(path: Path, config: StudentConfig, name: str = "tiny") -> Path:
    """A checkpoint as training writes it, of an untrained student."""
    from chpnet_training.recipe import Recipe

    recipe = Recipe(name=name, student=config)
    student = untrained(config)
    state = {"recipe": recipe.model_dump(mode="json"), "step": 7}
    state["networks"] = {"student": student.state_dict()}
    torch.save(state, path)
    return path
