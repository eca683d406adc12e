"""What the student tells its teacher: how useful the teaching was, and where it was wrong."""

from __future__ import annotations

import torch
from torch import Tensor

MEMORY = 0.95
"""Share of the old value in the running mean of a signal, from step to step."""


def usefulness(student: Tensor, teacher: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Agreement of the gradients of teaching and of truth at the student's image.

    With squared errors the gradients are S - T and S - x*, and

        u = <S - x*, S - T> / |S - T|^2

    is the share of the way from the student to its teacher that leads to the truth: the best u in
    |S + u (T - S) - x*|^2. It is 1 for a teacher without error, 1/2 for one whose independent
    errors are as large as the student's, and negative for one that leads away from the truth.

    Args:
        student: S, `batch channels y x`.
        teacher: T, `batch channels y x`.
        truth: x*, `batch channels y x`.

    Returns:
        Numerator and denominator, summed over the batch (scalars): they are averaged over steps
        and devices before they are divided.
    """
    away = student - teacher
    return ((student - truth) * away).sum(), away.square().sum()


def pull(student: Tensor, teacher: Tensor, truth: Tensor) -> Tensor:
    """The teacher's error where its student is nearer to the truth; `batch`, with a gradient.

    Args:
        student: S, `batch channels y x`.
        teacher: T, `batch channels y x`; the gradient goes here.
        truth: x*, `batch channels y x`.
    """
    wrong_teacher = (teacher - truth).square().sum(dim=1).add(1e-10).sqrt()
    with torch.no_grad():
        wrong_student = (student - truth).square().sum(dim=1).sqrt()
        ahead = (wrong_student < wrong_teacher).to(wrong_teacher.dtype)
    return (ahead * wrong_teacher).mean(dim=(1, 2))


class Feedback:
    """Running means of what the student reports.

    Attributes:
        usefulness: u as defined in `usefulness`, over the last steps; 1 before the first.
        lag: How much larger the student's error energy is than the teacher's, over the latter.

    Args:
        useful_from: Usefulness up to which the teaching has no weight. At 1/2 the teacher is no
            better than its student, and who goes on imitating it stays half of the way behind.
        full_lag: Lag from which the teaching has its whole weight; below, it has less in
            proportion, and none where the student has caught up. A student that imitates is
            always a little behind its teacher, on the way that leads to the truth as well: the
            usefulness stays near one, however little there is left to learn. 0: the lag does not
            count.
    """

    def __init__(self, useful_from: float = 0.0, full_lag: float = 0.0) -> None:
        self.useful_from, self.full_lag = useful_from, full_lag
        self._sums = [0.0, 0.0, 0.0, 0.0]

    @property
    def usefulness(self) -> float:
        """See the class."""
        agreement, distance = self._sums[:2]
        return agreement / distance if distance > 0 else 1.0

    @property
    def lag(self) -> float:
        """See the class."""
        student, teacher = self._sums[2:]
        return student / teacher - 1 if teacher > 0 else 0.0

    @property
    def weight(self) -> float:
        """Factor of the distillation loss: 0 up to `useful_from`, 1 for an ideal teacher."""
        useful = (self.usefulness - self.useful_from) / (1 - self.useful_from)
        return min(max(useful, 0.0), 1.0) * self._left_to_learn

    @property
    def _left_to_learn(self) -> float:
        """From 1, where the student is as far behind as `full_lag`, to 0, where it isn't."""
        if self.full_lag == 0 or not any(self._sums):  # before the first step
            return 1.0
        return min(max(self.lag / self.full_lag, 0.0), 1.0)

    def sums(self, student: Tensor, teacher: Tensor, truth: Tensor) -> Tensor:
        """What a step adds to the running means, `4`; sum it over devices before `add`."""
        agreement, distance = usefulness(student, teacher, truth)
        errors = [(image - truth).square().sum() for image in (student, teacher)]
        return torch.stack([agreement, distance, *errors]).double()

    def add(self, sums: Tensor) -> None:
        """Take up the `sums` of a step."""
        fresh = sums.tolist()
        self._sums = [
            MEMORY * old + (1 - MEMORY) * new for old, new in zip(self._sums, fresh, strict=True)
        ]

    def state_dict(self) -> dict[str, list[float]]:
        """The running sums."""
        return {"sums": list(self._sums)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Take up what `state_dict` gave."""
        self._sums = [float(value) for value in state["sums"]]
