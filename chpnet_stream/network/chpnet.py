"""CHPNet, the student: an unrolled CNN with the measurement inside.

Two networks share the denoiser and the interface. `CHPNet` is the paper's size with one
denoiser and plain gradient steps. `CHPNetRT` is made for real time: it starts from the
CG-SENSE image, has its own denoiser in every iteration, works on a folded image, and solves
for data consistency with a few conjugate-gradient steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from chpnet_stream.network.config import StudentConfig
from chpnet_stream.network.denoiser import Denoiser
from chpnet_stream.network.normal import Normal, Solver

LEAST_DOUBT = 1.5
"""A proposal is never taken for better than this many standard deviations of the noise."""


class Student(nn.Module):
    """What both students share: the configuration and their denoisers.

    Everything but the denoisers is a few vector operations and the task's A* A. An inference
    engine therefore replaces the denoisers (`denoisers`) and nothing else: the
    iterations are written down once, here, whatever the engine.

    Args:
        config: The architecture.
    """

    denoisers: nn.ModuleList

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor) -> Tensor:
        """Reconstruct a batch of slices; all images in the same units.

        Args:
            start: First image, `batch channels y x`: CG-SENSE for `kspace`, the
                up-sampled image for `superres`.
            adjoint: A* y, `batch channels y x`.
            normal: A* A on `batch channels y x`.
            noise: Standard deviation of the real part of the noise in one prewhitened coil, in
                units of the image, `batch 1 1 1`.

        Returns:
            Image `batch channels y x`.
        """
        for made, _ in self.unroll(start, adjoint, normal, noise):
            start = made
        return start

    def unroll(
        self, start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The iterations of `forward`, one after the other.

        Yields:
            The image after the iteration, `batch channels y x`, and the finest features of its
            denoiser, `batch width y/unshuffle x/unshuffle` (of the padded matrix).
        """
        raise NotImplementedError


class CHPNet(Student):
    """x <- x - delta_t (A*(A x - y) + eta_t (x - V(x))), V shared by all iterations."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        c = config.channels
        self.denoisers = nn.ModuleList(
            [
                Denoiser(
                    c + 1,
                    c,
                    config.widths,
                    blocks=config.blocks,
                    unshuffle=config.unshuffle,
                    up_kernel=config.up_kernel,
                )
            ]
        )
        self.delta = nn.Parameter(torch.full((config.iterations,), 1.0))
        self.eta = nn.Parameter(torch.full((config.iterations,), 0.1))

    def unroll(
        self, start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Student.unroll`."""
        x = start
        sigma = noise.expand(-1, 1, *x.shape[2:])
        for t in range(self.config.iterations):
            change, features = self.denoisers[0](torch.cat([x, sigma], dim=1), None)
            data = normal(x) - adjoint
            x = x - self.delta[t] * (data - self.eta[t] * change)
            yield x, features


class CHPNetRT(Student):
    """Unrolled half-quadratic splitting from CG-SENSE, a denoiser of its own every iteration.

    Every iteration proposes an image z and, in each pixel, how far it may be wrong (tau,
    in units of the image); data consistency then solves
    ``(A*A + sigma^2 / tau^2) x = A*y + sigma^2 / tau^2 z`` by `cg_steps` conjugate-gradient
    steps from z. With no noise the data are believed, where the proposal is sure of itself
    the proposal is.
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        c = config.channels
        self.denoisers = nn.ModuleList(
            Denoiser(
                2 * c + 1,
                c + 1,
                config.widths,
                blocks=config.blocks,
                unshuffle=config.unshuffle,
                state=True,
                up_kernel=config.up_kernel,
            )
            for _ in range(config.iterations)
        )
        self.trust = nn.Parameter(torch.tensor([[0.5, 1.0]] * config.iterations))

    def unroll(
        self, start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Student.unroll`."""
        x = start
        state: Tensor | None = None
        sigma = noise.expand(-1, 1, *x.shape[2:])
        for t, denoiser in enumerate(self.denoisers):
            out, state = denoiser(torch.cat([x, start, 4.0 * sigma], dim=1), state)
            x = consistent_step(x, out, sigma, self.trust[t], adjoint, normal, self.config.cg_steps)
            yield x, state


def consistent_step(
    x: Tensor,
    out: Tensor,
    sigma: Tensor,
    trust: Tensor,
    adjoint: Tensor,
    normal: Normal,
    steps: int,
) -> Tensor:
    """One half-quadratic splitting step: the proposal of a denoiser made consistent with the data.

    Args:
        x: Image so far, `batch channels y x`.
        out: What the denoiser says, `batch channels+1 y x`: the change that it proposes, and how
            far it may be wrong.
        sigma: Noise, `batch 1 y x`.
        trust: Floor and slope of the doubt, `2`.
        adjoint: A* y, `batch channels y x`.
        normal: A* A.
        steps: Conjugate-gradient steps.

    Returns:
        Image `batch channels y x`.
    """
    c = x.shape[1]
    out = out.to(x.dtype)  # under autocast the denoiser answers in half precision
    proposal = x + out[:, :c]
    floor, slope = trust[0].abs(), trust[1].abs()
    tau = slope * out[:, c:].abs() + (LEAST_DOUBT + floor) * sigma + 1e-12
    weight = (sigma / tau).square() + 1e-4
    return _solve(normal, adjoint, proposal, weight, steps)


def _solve(normal: Normal, adjoint: Tensor, start: Tensor, weight: Tensor, steps: int) -> Tensor:
    """A few conjugate-gradient steps on (N + weight) x = adjoint + weight start, from start."""
    if isinstance(normal, Solver) and not torch.is_grad_enabled():
        return normal.solve(adjoint, start, weight, steps)
    x = start
    residual = adjoint - normal(start)
    direction = residual
    energy = _energy(residual)
    for step in range(steps):
        image = normal(direction) + weight * direction
        size = energy / ((direction * image).sum(dim=(1, 2, 3), keepdim=True) + 1e-20)
        x = x + size * direction
        if step + 1 < steps:
            residual = residual - size * image
            fresh = _energy(residual)
            direction = residual + fresh / (energy + 1e-20) * direction
            energy = fresh
    return x


def _energy(x: Tensor) -> Tensor:
    return x.square().sum(dim=(1, 2, 3), keepdim=True)


def build_student(config: StudentConfig | dict[str, Any]) -> Student:
    """Make an untrained student.

    Args:
        config: The architecture, or the mapping that stands in a model card.
    """
    if isinstance(config, dict):
        config = StudentConfig.model_validate(config)
    return CHPNet(config) if config.architecture == "chpnet" else CHPNetRT(config)
