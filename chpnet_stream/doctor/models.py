"""The installed models and their checksums."""

from __future__ import annotations

from collections.abc import Iterator

from chpnet_stream.doctor.finding import Finding
from chpnet_stream.errors import ModelError
from chpnet_stream.network.weights import DEFAULT_MODEL, MODELS, find_model, installed_models


def model_findings() -> Iterator[Finding]:
    """Every installed model, its files compared with the card."""
    names = installed_models()
    if DEFAULT_MODEL not in names:
        yield Finding(
            "models",
            DEFAULT_MODEL,
            "fail",
            f"the default model is not in {MODELS}",
            "install chpnet-stream again, or name a model: --model FILE.json",
        )
    for name in names:
        try:
            model = find_model(name)
            model.verify()
        except ModelError as error:
            again = "install chpnet-stream again"
            level = "fail" if name == DEFAULT_MODEL else "warn"
            yield Finding("models", name, level, str(error), again)  # type: ignore[arg-type]
            continue
        card = model.card
        size = sum(path.stat().st_size for path in model.files()) / 1e6
        yield Finding(
            "models",
            name,
            "ok",
            f"task {card.student.task}, {card.parameters:,} parameters, {size:.1f} MB, checksums "
            f"agree ({card.checksum[:8]})",
            values={"task": card.student.task, "checksum": card.checksum},
        )
