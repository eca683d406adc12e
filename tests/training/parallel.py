"""A training run that torchrun starts in several processes; each writes down what it saw.

    torchrun --nproc-per-node 2 tests/training/parallel.py KIND SETTINGS BANK FOLDER [TEACHER]

SETTINGS is JSON for `recipe_for_all`.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from chpnet_training.devices import make_fabric
from chpnet_training.processes import launch
from tests.training.tiny_runs import make_run, recipe_for_all


class Watched(torch.utils.data.Dataset):
    """Slices that remember which of them were asked for."""

    def __init__(self, slices: torch.utils.data.Dataset) -> None:
        self.slices = slices
        self.seen: list[int] = []

    def __getitem__(self, number: int) -> list:
        self.seen.append(number)
        return self.slices[number]


def main(kind: str, settings: str, *paths: str) -> None:
    faulthandler.dump_traceback_later(200)  # `start` of test_parallel.py gives up after this
    torch.set_num_threads(1)
    bank, folder, *teacher = map(Path, paths)
    fabric = make_fabric(accelerator="cpu", unused=kind == "distill")
    launch(fabric)
    recipe = recipe_for_all(**json.loads(settings))
    trainer = make_run(
        kind, recipe, bank, folder, fabric=fabric, teacher=teacher[0] if teacher else None
    )
    trainer.slices = Watched(trainer.slices)
    gates = []

    def note(progress: object) -> None:
        if kind == "distill":
            gates.append(trainer.learner.raw_teacher.gates.logits.tolist())

    finished = trainer.run(note)
    told = {
        "rank": fabric.global_rank,
        "world": fabric.world_size,
        "finished": finished,
        "seen": trainer.slices.seen,
        "scores": trainer.scores,
        "gates": gates,
        "weights": [p.double().sum().item() for p in trainer.learner.evaluated.parameters()],
    }
    (folder / f"rank{fabric.global_rank}.json").write_text(json.dumps(told), encoding="utf-8")
    fabric.barrier()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
