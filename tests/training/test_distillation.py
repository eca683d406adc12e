"""Real steps of a tiny student with a tiny teacher; every switch does what it says."""

import copy
import io
import itertools

import pytest
import torch

from chpnet_stream.errors import ConfigurationError
from chpnet_training.dataset import Slices, collate
from chpnet_training.distillation import Distillation, refuse_patience
from chpnet_training.gates import REACH
from chpnet_training.recipe import Recipe
from chpnet_training.runs import build_network
from chpnet_training.supervised import Supervised
from chpnet_training.teacher import SwinTeacher
from chpnet_training.validation import psnr_of
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import assert_same, cpu, recipe_for_all

OFF = {"correction": False, "feedback": False, "parameters": False, "structure": False}
FROZEN = OFF | {"hints": 0.0}


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """Six training batches of two slices of one matrix."""
    bank = tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")
    recipe = recipe_of(simulation={"matrix_y": (32, 32), "matrix_x": (24, 24)})
    slices = Slices(bank, "train", recipe)
    return [collate([*slices[2 * i], *slices[2 * i + 1]]) for i in range(6)]


def recipe_of(**sections) -> Recipe:
    return recipe_for_all(6, **sections)


def teacher_of(recipe: Recipe) -> SwinTeacher:
    """Random weights whose image differs from the start visibly, but not by much."""
    teacher = build_network(recipe, "teacher")
    assert isinstance(teacher, SwinTeacher)
    return teacher


def make(teacher: SwinTeacher | None = None, **distillation) -> Distillation:
    recipe = recipe_of(distillation=distillation)
    teacher = teacher or teacher_of(recipe)
    return Distillation(cpu(), build_network(recipe, "student"), teacher, recipe)


def go(learner, batches, first: int = 0, last: int = 4) -> list[dict[str, float]]:
    """Steps as the trainer makes them."""
    told = []
    for number in range(first, last):
        torch.manual_seed(number)
        told.append(learner.step(batches[number], number))
    return told


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def changed(network: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    after = network.state_dict()
    return {key for key in before if not torch.equal(before[key], after[key])}


def reloaded(state: dict) -> dict:
    """As a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_what_is_told(batches):
    told = go(make(), batches, last=3)
    for row in told:
        assert {"loss", "teaching", "transfer", "teacher_loss", "teacher_psnr"} <= row.keys()
        assert {"usefulness", "lag", "corrected", "trust", "open_blocks", "share"} <= row.keys()
        assert {"block_price", "train_psnr"} <= row.keys()
        assert 0 <= row["corrected"] <= 1
        assert 0 <= row["trust"] <= 1
        assert 0 <= row["open_blocks"] <= 4
    for name in ("usefulness", "lag", "corrected", "trust", "teaching", "transfer"):
        assert len({row[name] for row in told}) == 3, name  # nothing is a constant


def test_a_frozen_teacher_stays_as_it_is(batches):
    learner = make(**FROZEN)
    teacher, before = learner.raw_teacher, weights_of(learner.raw_teacher)
    student = weights_of(learner.student.network)
    told = go(learner, batches)
    assert not changed(teacher, before)
    assert changed(learner.student.network, student) == student.keys()
    assert learner.teacher is None
    assert "teacher" not in learner.state_dict()
    groups = learner.student.optimizer.param_groups
    optimized = {id(p) for p in itertools.chain(*(group["params"] for group in groups))}
    assert optimized.isdisjoint(id(p) for p in teacher.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert {"teacher_loss", "corrected", "block_price", "transfer"}.isdisjoint(told[-1])
    assert told[-1]["share"] == learner.how.weight
    assert learner.networks()["teacher"] is teacher


def test_a_frozen_teacher_teaches(batches):
    """With all of the weight on it, the student goes to its teacher and not to the truth."""
    recipe = recipe_of()
    teacher = teacher_of(recipe)
    with torch.no_grad():  # a teacher with an opinion of its own: brighter by a tenth
        teacher.stages[-1].tail.bias[:4] = 0.1
        teacher.trust[-1, 0] = 1e-3
    batch = batches[0]
    learner = make(teacher, **FROZEN | {"weight": 1.0, "finish": 0.0})
    alone = make(teacher, **FROZEN | {"weight": 0.0})
    with torch.no_grad():
        taught = learner.master(batch)[0][-1]
    for _ in range(20):
        learner.step(batch, 2)
        alone.step(batch, 2)

    def distances(student: torch.nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            image = student(batch.start, batch.adjoint, batch.normal, batch.noise)
        return float((image - taught).norm()), float((image - batch.target).norm())

    ours = distances(learner.student.network.module.student)
    theirs = distances(alone.student.network.module.student)
    assert ours[0] < 0.9 * theirs[0]
    assert ours[1] > theirs[1]


def test_parameters_change_and_gates_do_not(batches):
    learner = make(structure=False)
    before = weights_of(learner.raw_teacher)
    told = go(learner, batches)
    found = changed(learner.raw_teacher, before)
    assert found == before.keys() - {"gates.logits"}
    assert "block_price" not in told[-1]
    assert {row["open_blocks"] for row in told} == {4.0}
    assert changed(learner.networks()["teacher"], before) == found


def test_structure_changes_the_gates_alone(batches):
    learner = make(parameters=False)
    before = weights_of(learner.raw_teacher)
    go(learner, batches)
    assert changed(learner.raw_teacher, before) == {"gates.logits"}
    assert learner.teacher is not None
    groups = learner.teacher.optimizer.param_groups
    assert [p.shape for group in groups for p in group["params"]] == [torch.Size([4])]


def test_everything_learns_in_the_dynamic_arm(batches):
    learner = make()
    before = weights_of(learner.raw_teacher)
    go(learner, batches)
    assert changed(learner.raw_teacher, before) == before.keys()
    assert not learner.raw_teacher.gates.learning


def test_the_rate_of_the_gates_is_their_own(batches):
    learner = make(gate_rate=0.05, learning_rate=1e-4)
    assert learner.teacher is not None
    go(learner, batches, first=2, last=3)
    weights, gates = learner.teacher.optimizer.param_groups
    assert gates["lr"] == pytest.approx(500 * weights["lr"])
    assert weights["lr"] <= 1e-4
    assert gates["weight_decay"] == 0


def test_blocks_close_when_the_student_lags_and_open_when_it_has_caught_up(batches):
    """By the lag alone: the price sets it, gradients of the image may delay it."""
    learner = make(gate_rate=1.5, gate_price=5.0, parameters=False, gap=0.05)
    learner.feedback.load_state_dict({"sums": [1.0, 1.0, 1e9, 1e8]})
    told = [learner.step(batches[i % 4], 2) for i in range(10)]
    assert told[-1]["block_price"] > 0
    assert told[-1]["open_blocks"] < 4
    assert float(learner.raw_teacher.gates.logits.detach().min()) >= -REACH
    learner.feedback.load_state_dict({"sums": [1.0, 1.0, 1e8, 1e9]})
    told = [learner.step(batches[i % 4], 2) for i in range(25)]
    assert told[-1]["block_price"] < 0
    assert told[-1]["open_blocks"] == 4


def test_the_teacher_learns_every_so_many_steps(batches):
    learner = make(teacher_every=2)
    for number in range(4):
        before = weights_of(learner.raw_teacher)
        (told,) = go(learner, batches, number, number + 1)
        assert bool(changed(learner.raw_teacher, before)) == (number % 2 == 0)
        assert ("teacher_loss" in told) == (number % 2 == 0)


def test_an_early_end_is_refused():
    with pytest.raises(ConfigurationError, match=r"validation\.patience = 0 for distillation"):
        refuse_patience(recipe_of(validation={"patience": 3}))
    recipe = recipe_of(validation={"patience": 3})
    with pytest.raises(ConfigurationError, match="found 3: its last steps"):
        Distillation(cpu(), build_network(recipe, "student"), teacher_of(recipe), recipe)
    refuse_patience(recipe_of(validation={"patience": 3}, distillation={"weight": 0.0}))


@pytest.mark.parametrize("hints", [0.0, 0.1])
def test_without_weight_the_student_is_alone(batches, hints):
    """Bit for bit what supervised training gives."""
    recipe = recipe_of(distillation={"weight": 0.0, "hints": hints})
    teacher = teacher_of(recipe)
    before = weights_of(teacher)
    learner = Distillation(cpu(), build_network(recipe, "student"), teacher, recipe)
    alone = Supervised(cpu(), build_network(recipe, "student"), recipe)
    ours, theirs = go(learner, batches, last=6), go(alone, batches, last=6)
    assert not changed(teacher, before)
    assert [row["loss"] for row in ours] == [row["loss"] for row in theirs]
    assert_same(weights_of(learner.evaluated), weights_of(alone.evaluated))


def test_after_the_finish_the_student_learns_from_the_truth_alone(batches):
    learner = make(finish=0.34, hints=0.0)
    assert learner.finish_at == 4
    go(learner, batches)
    teacher, feedback = weights_of(learner.raw_teacher), learner.feedback.state_dict()

    recipe = learner.recipe
    alone = Supervised(cpu(), build_network(recipe, "student"), recipe)
    state = learner.student.state_dict()
    for part in ("network", "average"):
        state[part] = {key.removeprefix("student."): v for key, v in state[part].items()}
    alone.load_state_dict({"student": reloaded(state)})

    told, expected = go(learner, batches, 4, 6), go(alone, batches, 4, 6)
    assert not changed(learner.raw_teacher, teacher)
    assert learner.feedback.state_dict() == feedback
    assert {"usefulness", "teaching", "teacher_loss"}.isdisjoint(told[0])
    assert [row["loss"] for row in told] == [row["loss"] for row in expected]
    assert_same(weights_of(learner.evaluated), weights_of(alone.evaluated))


@pytest.mark.parametrize("switches", [{}, FROZEN, {"structure": False, "iterates": 0.1}])
def test_what_is_stored_goes_on_alike(batches, switches):
    first = make(**switches)
    go(first, batches, last=3)
    stored = reloaded(first.state_dict())
    second = make(**switches)
    second.load_state_dict(stored)
    assert_same(stored, reloaded(second.state_dict()))
    assert go(first, batches, 3, 5) == go(second, batches, 3, 5)
    assert_same(reloaded(first.state_dict()), reloaded(second.state_dict()))
    for name, network in first.networks().items():
        assert_same(weights_of(network), weights_of(second.networks()[name]))


class Contrary(SwinTeacher):
    """Knows the truth and leads away from it: x* + k (S - x*), S the student's image.

    Attributes:
        k: 0 would be the truth; more than 1 leads away from it.
        student: Whom it misleads.
        truth: The truth of the batch.
    """

    k = 3.0

    def unroll(self, start, adjoint, normal, noise):
        """See `SwinTeacher.unroll`."""
        with torch.no_grad():
            misled = self.student(start, adjoint, normal, noise)
        for _, features in super().unroll(start, adjoint, normal, noise):
            yield self.truth + self.k * (misled - self.truth), features


def contrary(batches, k: float, **switches) -> list[dict[str, float]]:
    """What a student tells in four steps with such a teacher."""
    recipe = recipe_of(distillation=FROZEN | {"feedback": True, "finish": 0.0} | switches)
    teacher = Contrary(recipe.teacher)
    learner = Distillation(cpu(), build_network(recipe, "student"), teacher, recipe)
    teacher.k = k
    object.__setattr__(teacher, "student", learner.student.network.module.student)
    told = []
    for number in range(4):
        teacher.truth = batches[number].target
        told += go(learner, batches, number, number + 1)
    return told


def test_a_teacher_that_leads_away_loses_its_weight(batches):
    told = contrary(batches, k=3.0)
    assert [row["usefulness"] for row in told] == pytest.approx([-0.5] * 4, rel=1e-3)
    assert told[0]["share"] > 0  # nothing was known of it yet
    assert [row["share"] for row in told[1:]] == [0.0] * 3
    honest = contrary(batches, k=0.0)
    assert [row["usefulness"] for row in honest] == pytest.approx([1.0] * 4, rel=1e-3)
    assert [row["share"] for row in honest] == pytest.approx([honest[0]["share"]] * 4)


def test_without_feedback_it_would_keep_its_weight(batches):
    told = contrary(batches, k=3.0, feedback=False)
    assert {row["share"] for row in told} == {told[0]["share"]}
    assert told[-1]["usefulness"] == pytest.approx(-0.5, rel=1e-3)


def test_its_errors_are_corrected_away(batches):
    """k = 3: nine times the student's error energy, so that w is about a ninth."""
    told = contrary(batches, k=3.0, correction=True)
    assert all(row["corrected"] > 0.9 for row in told)
    assert all(row["trust"] < 0.3 for row in told)
    assert all(row["trust"] == 1.0 for row in contrary(batches, k=0.0, correction=True))


def test_the_weight_of_bad_weights_falls(batches):
    """Real weights that spoil the image, no wrapper: the first steps see it."""
    recipe = recipe_of()
    teacher = teacher_of(recipe)
    with torch.no_grad():
        teacher.stages[-1].tail.weight.normal_(std=2.0)
    learner = make(teacher, **FROZEN | {"feedback": True})
    told = go(learner, batches, last=3)
    assert told[-1]["teacher_psnr"] < told[-1]["train_psnr"] - 3
    assert told[-1]["usefulness"] < 0.3
    assert told[-1]["share"] < 0.3 * told[0]["share"]


def test_a_teacher_that_learns_repairs_its_errors(batches):
    recipe = recipe_of()
    teacher = teacher_of(recipe)
    with torch.no_grad():
        teacher.stages[-1].tail.weight.normal_(std=0.5)
    before = copy.deepcopy(teacher)
    learner = make(teacher, structure=False, learning_rate=5e-3)
    batch = batches[0]
    for _ in range(15):
        told = learner.step(batch, 2)

    def error(network: SwinTeacher) -> float:
        with torch.no_grad():
            image = network(batch.start, batch.adjoint, batch.normal, batch.noise)
        return float((image - batch.target).square().mean())

    assert error(teacher) < 0.7 * error(before)
    assert told["teacher_loss"] > 0


def test_a_teacher_that_steps_now_and_then_sees_every_factor(tmp_path):
    """Factors take turns: every second step would always be the same one."""
    recipe = recipe_of(
        student={"task": "superres", "widths": (4, 8), "iterations": 2},
        superres={"matrix": 32, "factors": (2, 4)},
        distillation={"teacher_every": 2, "finish": 0.0},
    )
    learner = Distillation(cpu(), build_network(recipe, "student"), teacher_of(recipe), recipe)
    slices = Slices(tiny_bank(tmp_path / "bank.h5"), "train", recipe)
    size, taught = recipe.data.batch, []
    for number in range(6):
        samples = [*slices[number * size]]
        if "teacher_loss" in learner.step(collate(samples), number):
            taught.append(samples[0].factor)
    assert taught == [2, 4, 2, 4]


def test_a_teacher_that_learns_teaches_with_its_averaged_weights(batches):
    learner = make()
    go(learner, batches, last=3)
    averaged, raw = learner.networks()["teacher"], learner.raw_teacher
    assert torch.equal(averaged.gates.logits, raw.gates.logits)  # gates have no average
    assert not torch.equal(averaged.stages[0].head.weight, raw.stages[0].head.weight)
    batch = batches[3]
    with torch.no_grad():
        image = averaged(batch.start, batch.adjoint, batch.normal, batch.noise)
    (told,) = go(learner, batches, 3, 4)
    assert told["teacher_psnr"] == pytest.approx(float(psnr_of(image, batch.target).mean()))
