"""Teaching and learning at once: one step of the student, one of its teacher."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.network.chpnet import Student
from chpnet_training.correction import correct
from chpnet_training.dataset import Batch
from chpnet_training.feedback import Feedback, pull
from chpnet_training.hints import CommonSpace, Steps
from chpnet_training.losses import charbonnier, image_loss
from chpnet_training.optimization import GuardedOptimizer
from chpnet_training.recipe import Recipe
from chpnet_training.structure import price, structure_loss
from chpnet_training.supervised import difficulty_weights
from chpnet_training.teacher import SwinTeacher
from chpnet_training.validation import psnr_of


def refuse_patience(recipe: Recipe) -> None:
    """Refuse an early end of distillation: the last steps are the student's own.

    Raises:
        ConfigurationError: As said.
    """
    if recipe.validation.patience and recipe.distillation.weight:
        raise ConfigurationError(
            f"expected validation.patience = 0 for distillation, found {recipe.validation.patience}"
            ": its last steps, without the teacher and at a low learning rate (distillation.finish)"
            ", are part of it; give --set validation.patience=0 (`chpnet-train teacher` and "
            "`student` take patience)"
        )


class Apprentice(nn.Module):
    """The student together with the projections that only its training needs.

    Args:
        student: The student.
        space: Projections of features; None where no features are transferred.
    """

    def __init__(self, student: Student, space: CommonSpace | None) -> None:
        super().__init__()
        self.student = student
        self.space = space

    def forward(
        self, batch: Batch, teacher: Steps
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor] | None]:
        """Images after every iteration, and the losses of `CommonSpace` if there is a teacher."""
        images, steps = unrolled(self.student, batch)
        if self.space is None or not teacher:
            return images, None
        return images, self.space(steps, teacher, batch.target)


class Lecturer(nn.Module):
    """The teacher, giving the images and features of all its iterations."""

    def __init__(self, teacher: SwinTeacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, batch: Batch) -> tuple[list[Tensor], Steps]:
        """See `unrolled`."""
        images, steps = unrolled(self.teacher, batch)
        # the price of the blocks is taken outside: DDP must find the gates here, open or not
        images[-1] = images[-1] + 0.0 * self.teacher.gates.logits.sum()
        return images, steps


def unrolled(network: Student | SwinTeacher, batch: Batch) -> tuple[list[Tensor], Steps]:
    """Images after every iteration; and what each began with, with its features."""
    made = list(network.unroll(batch.start, batch.adjoint, batch.normal, batch.noise))
    images = [image for image, _ in made]
    begun = [batch.start, *images[:-1]]
    features = [feature for _, feature in made]
    return images, list(zip(begun, features, strict=True))


class Distillation:
    """Dynamic heterogeneous distillation; every mechanism is a switch of the recipe.

    A teacher that learns teaches with its averaged weights: its steps disturb it, and the student
    need not see that.

    Attributes:
        evaluated: The student with averaged weights.
        feedback: What the student reported so far.

    Args:
        fabric: Where to train.
        student: The student.
        teacher: A teacher that has been trained on the truth.
        recipe: Losses, switches, optimizer.

    Raises:
        ConfigurationError: See `refuse_patience`.
    """

    def __init__(
        self, fabric: Fabric, student: Student, teacher: SwinTeacher, recipe: Recipe
    ) -> None:
        refuse_patience(recipe)
        self.fabric, self.recipe, self.how = fabric, recipe, recipe.distillation
        self.feedback = Feedback(self.how.useful_from, self.how.full_lag)
        c, t = student.config, teacher.config
        space = None
        if self.how.hints > 0:
            space = CommonSpace(
                c.widths[0],
                c.unshuffle,
                c.iterations,
                t.width,
                t.fold,
                t.iterations,
                c.channels,
            )
        self.student = GuardedOptimizer(fabric, Apprentice(student, space), recipe.optimizer)
        self.evaluated: nn.Module = self.student.average.get_submodule("student")
        learns = self.how.parameters or self.how.structure
        teacher.gates.learning = False
        teacher.requires_grad_(learns)
        self.raw_teacher = teacher
        self.teacher: GuardedOptimizer | None = None
        self.master: nn.Module = Lecturer(teacher)
        if learns:
            self.teacher = self._teacher_optimizer(self.master)
            self.master = self.teacher.average
        else:
            self.master.to(fabric.device)
        superres = student.config.task == "superres"
        self.cycle = len(recipe.superres.factors) if superres else 1  # one after the other: all
        self.finish_at = round((1 - self.how.finish) * recipe.optimizer.steps)

    @property
    def _taught_by(self) -> SwinTeacher:
        """The teacher that the student sees: averaged weights where it learns."""
        teacher = self.master.get_submodule("teacher")
        if not isinstance(teacher, SwinTeacher):
            raise TypeError(f"expected a teacher, found {type(teacher).__name__}")
        return teacher

    def _teacher_optimizer(self, lecturer: nn.Module) -> GuardedOptimizer:
        how = self.how
        gates = [p for n, p in lecturer.named_parameters() if ".gates." in n]
        weights = [p for n, p in lecturer.named_parameters() if ".gates." not in n]
        if not how.parameters:
            for p in weights:
                p.requires_grad_(False)
        if not how.structure:
            for p in gates:
                p.requires_grad_(False)
        groups: list[dict[str, Any]] = []
        if how.parameters:
            groups.append({"params": weights})
        if how.structure:
            scale = how.gate_rate / how.learning_rate
            groups.append({"params": gates, "scale": scale, "weight_decay": 0.0})
        config = self.recipe.optimizer.model_copy(update={"learning_rate": how.learning_rate})
        return GuardedOptimizer(
            self.fabric, lecturer, config, name="teacher", groups=groups, trained=True
        )

    def step(self, batch: Batch, number: int) -> dict[str, float]:
        """One step of the student, and one of the teacher where it learns."""
        weights = difficulty_weights(batch)
        if number >= self.finish_at or self.how.weight == 0:
            return self._alone(batch, number, weights)
        with torch.no_grad():
            images, steps = self.master(batch)
        taught = images[-1]
        told, student = self._student_step(batch, number, weights, taught, steps)
        sums = self.feedback.sums(student, taught, batch.target)
        self.feedback.add(torch.as_tensor(self.fabric.all_reduce(sums, reduce_op="sum")))
        if self.teacher is not None and (number // self.cycle) % self.how.teacher_every == 0:
            told |= self._teacher_step(self.teacher, batch, number, weights, student)
        told["usefulness"] = self.feedback.usefulness
        told["lag"] = self.feedback.lag
        told["teacher_psnr"] = float(psnr_of(taught, batch.target).mean())
        told["open_blocks"] = float(sum(self._taught_by.gates.open_blocks()))
        return told

    def _alone(self, batch: Batch, number: int, weights: Tensor) -> dict[str, float]:
        images, _ = self.student.network(batch, [])
        terms = self._distance(images[-1], batch.target)
        told = {key: float(value.detach().mean()) for key, value in terms.items()}
        told["train_psnr"] = float(psnr_of(images[-1].detach(), batch.target).mean())
        loss = (terms["loss"] * weights).mean()
        self.student.step(loss, number, told)
        return told

    def _student_step(
        self,
        batch: Batch,
        number: int,
        weights: Tensor,
        taught: Tensor,
        steps: Steps,
    ) -> tuple[dict[str, float], Tensor]:
        """What is told of the step, and the image that the student had before it."""
        how = self.how
        images, hints = self.student.network(batch, steps if how.hints > 0 else [])
        last = images[-1]
        student = last.detach()
        terms = self._distance(last, batch.target)
        told = {key: float(value.detach().mean()) for key, value in terms.items()}
        target = taught
        if how.correction:
            corrected = correct(target, student, batch.target)
            target = corrected.target
            told["corrected"] = float(corrected.share.mean())
            told["trust"] = float(corrected.trust.mean())
        useful = self.feedback.weight if how.feedback else 1.0
        share = how.weight * useful
        teaching = self._distance(last, target)["loss"]
        loss = (1 - share) * terms["loss"] + share * teaching
        told["teaching"] = float(teaching.detach().mean())
        told["share"] = share
        if how.iterates > 0:
            between = [charbonnier(image, target) for image in images[:-1]]
            if between:
                loss = loss + how.iterates * useful * torch.stack(between).mean(dim=0)
        if hints is not None:
            transfer, anchor = hints
            loss = loss + how.hints * useful * transfer + anchor
            told["transfer"] = float(transfer.detach().mean())
        told["train_psnr"] = float(psnr_of(student, batch.target).mean())
        self.student.step((loss * weights).mean(), number, told)
        return told, student

    def _teacher_step(
        self,
        teacher: GuardedOptimizer,
        batch: Batch,
        number: int,
        weights: Tensor,
        student: Tensor,
    ) -> dict[str, float]:
        """The teacher repairs its own errors, first where the student has found them."""
        how, gates = self.how, self.raw_teacher.gates
        gates.learning = how.structure
        images, _ = teacher.network(batch)
        gates.learning = False
        image = images[-1]
        loss = self._distance(image, batch.target)["loss"]
        told = {"teacher_loss": float(loss.detach().mean())}
        needed = 1.0 - self.feedback.weight if how.feedback else 0.0
        if how.pull > 0:
            loss = loss + how.pull * (0.5 + needed) * pull(student, image, batch.target)
        if how.approach > 0:
            loss = loss + how.approach * charbonnier(image, student)
        total = (loss * weights).mean()
        if how.structure:
            cost = price(self.feedback.lag, how.gap, how.gate_price)
            told["block_price"] = cost
            total = total + structure_loss(gates, cost)
        teacher.step(total, number, told)
        gates.keep_in_reach()
        with torch.no_grad():  # a block is open or closed: there is no average of that
            self._taught_by.gates.logits.copy_(gates.logits)
        return told

    def _distance(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        loss = self.recipe.loss
        return image_loss(image, target, edge_weight=loss.edge, ssim_weight=loss.ssim)

    def networks(self) -> dict[str, nn.Module]:
        """Averaged networks by name, as checkpoints hold them."""
        return {"student": self.evaluated, "teacher": self._taught_by}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        state: dict[str, Any] = {
            "student": self.student.state_dict(),
            "feedback": self.feedback.state_dict(),
        }
        if self.teacher is not None:
            state["teacher"] = self.teacher.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.student.load_state_dict(state["student"])
        self.feedback.load_state_dict(state["feedback"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
