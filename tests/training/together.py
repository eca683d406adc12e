"""Scenes that torchrun plays in two processes; each writes down what came of them.

    torchrun --nproc-per-node 2 tests/training/together.py BANK FOLDER TEACHER

In the last scene the second process never answers: the first ends with an error.
"""

import json
import math
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from chpnet_training.agreement import first_alone
from chpnet_training.devices import make_fabric
from chpnet_training.optimization import TrainingError
from chpnet_training.processes import launch
from tests.training.test_optimization import guarded, learn, weight
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import make_run, recipe_for_all

SETTINGS = {
    "simulation": {"matrix_y": (32, 32), "matrix_x": (32, 32)},
    "data": {"batch": 2},
    "validation": {"slices": 2},
}
PATIENCE = 8.0
"""Seconds that a process waits in the last two scenes; before them, ten minutes."""


class Liar(nn.Module):
    """Teaches the opposite of the truth."""

    def __init__(self, master):
        super().__init__()
        self.teacher, self.master = master.teacher, master

    def forward(self, batch):
        images, steps = self.master(batch)
        images[-1] = batch.start + 2 * (batch.start - batch.target)
        return images, steps


class Sleepy(torch.utils.data.Dataset):
    """Slices that never come, from one of them on."""

    def __init__(self, slices, last):
        self.slices, self.last = slices, last

    def __getitem__(self, number):
        while number > self.last:
            time.sleep(1)
        return self.slices[number]


def one_loss_is_infinite(fabric):
    """The gradients are finite; only the process that has the loss can see it."""
    optimizer = guarded(fabric)
    loss = optimizer.network(torch.ones(1, 1)).sum()
    loss = loss + (math.inf if fabric.global_rank == 1 else 0.0)
    try:
        optimizer.step(loss, 7, {"loss": float(loss.detach())})
    except TrainingError as error:
        return [str(error), weight(optimizer)]
    return None


def one_gradient_is_wild(fabric):
    """Steps taken: what counts is the mean of the gradients (1 is usual), not each of them."""
    optimizer = guarded(fabric)
    optimizer.updates, optimizer.usual = 50, 1.0
    taken = [learn(optimizer, x if fabric.global_rank else 1.0, 60) for x in (10.0, 100.0)]
    return [*taken, weight(optimizer)]


def one_is_taught_wrongly(fabric, bank, folder, teacher):
    """What the student reports is negative for one process, and not for the other."""
    trainer = make_run(
        "distill", recipe_for_all(3, 3, **SETTINGS), bank, folder, fabric=fabric, teacher=teacher
    )
    learner = trainer.learner
    shares = []
    trainer.run(lambda progress: shares.append(learner.feedback.usefulness), stop=lambda: True)
    if fabric.global_rank == 1:
        learner.master = Liar(learner.master)
    trainer.run(lambda progress: shares.append(learner.feedback.usefulness))
    weights = [p.double().sum().item() for p in learner.evaluated.parameters()]
    return [shares, learner.feedback.state_dict(), weights]


def one_finds_another_folder(fabric, bank, folder, teacher):
    """The second process looks for the checkpoint where none is."""
    place = folder if fabric.global_rank == 0 else folder / "elsewhere"
    try:
        make_run("distill", recipe_for_all(3, 3, **SETTINGS), bank, place, fabric=fabric,
                 teacher=teacher)  # fmt: skip
    except TrainingError as error:
        return str(error)
    return None


def one_has_other_data(fabric, bank, folder):
    """A file of the same name, made anew on the second machine."""
    place = folder / f"machine {fabric.global_rank}" / bank.name
    place.parent.mkdir()
    tiny_bank(place, ("train", "train", "train", "val"))
    if fabric.global_rank == 1:
        tiny_bank(place.with_name("new.h5"), ("val", "train", "train", "train")).replace(place)
    try:
        make_run("student", recipe_for_all(3, 3, **SETTINGS), place, folder / "x", fabric=fabric)
    except TrainingError as error:
        return str(error)
    return None


def one_works_longer_than_a_collective_may_take(fabric):
    """Seconds until all were through."""

    def work(beat):
        end = time.monotonic() + PATIENCE + 3
        while time.monotonic() < end:
            time.sleep(0.1)
            beat()

    begin = time.monotonic()
    first_alone(fabric, work)
    return time.monotonic() - begin


def one_never_answers(fabric, bank, folder):
    """The second process has no data for its second step."""
    trainer = make_run("student", recipe_for_all(6, 6, **SETTINGS), bank, folder, fabric=fabric)
    if fabric.global_rank == 1:
        trainer.slices = Sleepy(trainer.slices, 1)
    begin = time.monotonic()
    try:
        trainer.run()
    except TrainingError as error:
        return [str(error), time.monotonic() - begin]
    return None


def main(bank, folder, teacher):
    torch.set_num_threads(1)
    fabric = make_fabric(accelerator="cpu", unused=True)
    launch(fabric)
    told = {
        "infinite": one_loss_is_infinite(fabric),
        "wild": one_gradient_is_wild(fabric),
        "wrong": one_is_taught_wrongly(fabric, bank, folder, teacher),
        "folder": one_finds_another_folder(fabric, bank, folder, teacher),
        "data": one_has_other_data(fabric, bank, folder),
    }
    distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=PATIENCE))
    told["long"] = one_works_longer_than_a_collective_may_take(fabric)
    note = folder / f"rank{fabric.global_rank}.json"
    note.write_text(json.dumps(told), encoding="utf-8")
    told["silent"] = one_never_answers(fabric, bank, folder / "silent")
    note.write_text(json.dumps(told), encoding="utf-8")
    sys.exit(3)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
