"""Models that reconstruct raw data: those of the other task can't be scored on it."""

from __future__ import annotations

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.network.weights import Model, find_model


def find_kspace_model(model: str) -> Model:
    """An installed model, or that of a card.

    Raises:
        ConfigurationError: If it is none for `kspace`: another image would stand for its own.
    """
    found = find_model(model)
    task = found.card.student.task
    if task != "kspace":
        raise ConfigurationError(
            f"{model}: expected a model for 'kspace', found one for '{task}'; it makes no image of "
            "raw data"
        )
    return found
