"""How much arithmetic a network is."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from chpnet_training.recipe import Recipe


def count_macs(network: nn.Module, rows: int, columns: int, channels: int = 2) -> float:
    """Multiply-accumulates of convolutions and matrix products for one slice.

    Fourier transforms and data consistency are not counted: they are the same for every network.

    Args:
        network: A network of the students' interface.
        rows: Image rows.
        columns: Image columns.
        channels: Image channels.
    """
    from torch.utils.flop_counter import FlopCounterMode

    shapes = copy.deepcopy(network)
    image = torch.ones(1, channels, rows, columns)
    if not list(shapes.buffers()):  # shapes are all that counting needs
        shapes, image = shapes.to("meta"), image.to("meta")
    noise = torch.ones(1, 1, 1, 1, device=image.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(image, image, _identity, noise)
    return float(counter.get_total_flops()) / 2


def macs_of_recipe(network: nn.Module, recipe: Recipe) -> float:
    """`count_macs` for the largest slice that the recipe trains on."""
    if recipe.student.task == "superres":
        return count_macs(network, recipe.superres.matrix, recipe.superres.matrix, 1)
    return count_macs(network, recipe.simulation.matrix_y[1], recipe.simulation.strip)


def _identity(x: Tensor) -> Tensor:
    return x
