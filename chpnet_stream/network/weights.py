"""Finding, checking and loading trained students."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chpnet_stream.errors import ModelError
from chpnet_stream.near import hint
from chpnet_stream.network.card import ModelCard

if TYPE_CHECKING:
    from chpnet_stream.network.chpnet import Student

MODELS = Path(__file__).parent.parent / "models"
DEFAULT_MODEL = "chpnet-rt"


@dataclass(frozen=True)
class Model:
    """A model on disk: its card and the folder of its files."""

    card: ModelCard
    folder: Path

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / f"{self.card.name}.safetensors"

    def onnx(self, denoiser: int, precision: str = "fp32") -> Path:
        """The ONNX graph of one denoiser."""
        kind = "" if precision == "fp32" else f".{precision}"
        return self.folder / f"{self.card.name}{kind}.{denoiser}.onnx"

    def files(self) -> dict[Path, str]:
        """All files beside the card, with their checksums (SHA-256)."""
        found = {self.weights: self.card.weights_sha256}
        for i, checksum in enumerate(self.card.onnx_sha256):
            found[self.onnx(i)] = checksum
        for i, checksum in enumerate(self.card.int8_sha256):
            found[self.onnx(i, "int8")] = checksum
        for plan in self.card.plans:
            found |= {self.folder / name: checksum for name, checksum in plan.files.items()}
        return found

    def graphs(self, precision: str = "fp32") -> list[tuple[str, bytes]]:
        """Names and contents of the ONNX graphs of a precision, one for each denoiser.

        Raises:
            ModelError: If the card names none of that precision, or a file is missing or damaged.
        """
        sums = self.card.graph_sums(precision)
        if not sums and precision != "fp32":
            raise ModelError(
                f"{self.card.name}: expected ONNX graphs of precision {precision}, found none in "
                f"the card; make them by `chpnet-train compile --precision {precision}`, on the "
                "machine of the GPU"
            )
        paths = [self.onnx(i, precision) for i in range(len(sums))]
        return [(p.name, check_file(p, s)) for p, s in zip(paths, sums, strict=True)]

    def verify(self) -> None:
        """Check all files against the card.

        Raises:
            ModelError: If one is missing or differs.
        """
        for path, checksum in self.files().items():
            check_file(path, checksum)


def check_file(path: Path, sha256: str) -> bytes:
    """Read a file and make sure that it is the one the card means.

    Args:
        path: The file.
        sha256: Its checksum as the card has it.

    Returns:
        The file's content.

    Raises:
        ModelError: If it cannot be read or its checksum differs.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"expected the model file {path}, found: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path}: expected SHA-256 {sha256[:12]}..., found {found[:12]}...; "
            "the file is damaged or of another model: install it again"
        )
    return content


def installed_models() -> list[str]:
    """Names of the models that came with the package."""
    return sorted(path.stem for path in MODELS.glob("*.json"))


def find_model(name: str | Path) -> Model:
    """Find a model by its name or by the path of its card.

    Args:
        name: Name of an installed model, or the path of a `.json` card whose files lie beside it.

    Raises:
        ModelError: If there is no such model or the card can't be understood.
    """
    path = Path(name)
    if path.suffix != ".json":
        path = MODELS / f"{name}.json"
        if not path.is_file():
            known = installed_models()
            raise ModelError(
                f"expected an installed model or a card (.json), found '{name}'; "
                f"{hint(str(name), known, 'installed')}"
            )
    try:
        card = ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"expected a model card, found: {path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(
            f"{path}: expected a model card of format 1, found: {str(error).splitlines()[0]}"
        ) from error
    if card.name != path.stem:
        raise ModelError(
            f"{path}: expected a card named as its file, found the card of '{card.name}'"
        )
    return Model(card, path.parent)


def load_student(model: Model) -> Student:
    """Build the student of a model and load its weights, checked and without pickle.

    Raises:
        ModelError: If the weights are missing, damaged or of another architecture.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from chpnet_stream.network.chpnet import build_student

    content = check_file(model.weights, model.card.weights_sha256)
    student = build_student(model.card.student)
    try:
        state = load(content)
        student.load_state_dict({key: value.float() for key, value in state.items()})
    except SafetensorError as error:
        raise ModelError(f"{model.weights}: expected safetensors, found: {error}") from error
    except RuntimeError as error:
        *_, detail = str(error).splitlines()  # torch's first line only names the class
        raise ModelError(
            f"{model.weights}: expected the weights of {model.card.student.architecture} as the "
            f"card describes it, found others: {detail.strip()}"
        ) from error
    for parameter in student.parameters():
        parameter.requires_grad_(False)
    student.eval()
    return student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
