"""Two processes on the CPU make the network that one makes, and share the data."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from chpnet_training.machine import processor
from chpnet_training.optimization import TrainingError
from chpnet_training.options import ALLOCATOR
from chpnet_training.trainer import CHECKPOINT
from tests.training.refusal import SCENES
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import make_run, recipe_for_all, state_of

CHECKOUT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
SETTINGS = {
    "steps": 6,
    "every": 2,
    "simulation": {"matrix_y": (32, 32), "matrix_x": (32, 32)},
    "data": {"batch": 2},
    "validation": {"slices": 5},
}
TOLERANCE = 2e-4
"""Of weights: after six steps of 2e-3 at most. Sums in another order give up to 4e-5, for Adam
divides small gradients by their size."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")


@pytest.fixture(scope="module")
def alone(bank, tmp_path_factory):
    """Folders of runs in one process, by kind; the teacher that teaches has a closed block."""
    folder = tmp_path_factory.mktemp("alone")
    recipe = recipe_for_all(**SETTINGS)
    make_run("teacher", recipe, bank, folder / "teacher").run()
    state = state_of(folder / "teacher")
    state["networks"]["teacher"]["gates.logits"][1] = -6.0
    closed = folder / "closed.ckpt"
    torch.save(state, closed)
    make_run("distill", recipe, bank, folder / "distill", teacher=closed).run()
    make_run("student", recipe, bank, folder / "student").run()
    return folder


def start(*words: object, **environment: str) -> str:
    """Run a process in the checkout; returns what it said on stderr."""
    code, said = outcome(*words, **environment)
    assert code == 0, said
    return said


def outcome(*words: object, **environment: str) -> tuple[int, str]:
    """Exit code and stderr of a process in the checkout; none of its children outlives it."""
    kept = {k: v for k, v in os.environ.items() if k not in ALLOCATOR}
    with subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=CHECKOUT,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=250)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            raise AssertionError(f"did not end: {said}") from None
    return process.returncode, said


def torchrun(*words: object) -> str:
    return start(*TORCHRUN, *words)


def told_by(folder: Path) -> list[dict]:
    """What the two processes wrote down."""
    return [json.loads((folder / f"rank{i}.json").read_text()) for i in (0, 1)]


def furthest(one: Path, two: Path) -> float:
    """Largest difference of a weight of all networks, students and teachers."""
    networks, others = state_of(one)["networks"], state_of(two)["networks"]
    assert networks.keys() == others.keys()
    pairs = [
        (weights, others[name][key])
        for name, network in networks.items()
        for key, weights in network.items()
    ]
    assert len(pairs) > 10
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("kind", ["student", "distill"])
def test_two_processes_are_one_run(bank, alone, tmp_path, kind):
    words = [kind, json.dumps(SETTINGS), bank, tmp_path, alone / "closed.ckpt"]
    torchrun(CHECKOUT / "tests" / "training" / "parallel.py", *words)
    told = told_by(tmp_path)
    assert [t["world"] for t in told] == [2, 2]
    assert all(t["finished"] for t in told)
    # each slice of one process's run was seen once, by one of the two
    assert [t["seen"] for t in told] == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    assert told[0]["weights"] == told[1]["weights"]
    assert told[0]["gates"] == told[1]["gates"]
    assert told[0]["scores"] == told[1]["scores"]
    one = state_of(alone / kind)
    assert one["hardware"] == [processor()]
    assert state_of(tmp_path)["hardware"] == [f"2 x {processor()}"]
    assert furthest(alone / kind, tmp_path) < TOLERANCE
    for name, score in one["scores"].items():
        assert told[0]["scores"][name] == pytest.approx(score, rel=1e-4), name
    if kind == "distill":
        gates = torch.tensor(told[0]["gates"])
        assert (gates[:, 1] < -2).all()  # a block that no process computes
        assert float((gates[0] - gates[-1]).abs().max()) > 0.05  # and they do learn


def test_a_run_goes_on_with_another_number_of_processes(bank, alone, tmp_path):
    recipe = recipe_for_all(**SETTINGS)
    begun = make_run("student", recipe, bank, tmp_path)
    assert not begun.run(stop=lambda: begun.step == 3)
    words = ["student", json.dumps(SETTINGS), bank, tmp_path]
    torchrun(CHECKOUT / "tests" / "training" / "parallel.py", *words)
    assert json.loads((tmp_path / "rank1.json").read_text())["seen"] == [7, 9, 11]
    assert furthest(alone / "student", tmp_path) < TOLERANCE


@pytest.mark.parametrize("launcher", ["--devices", "torchrun"])
def test_the_command_line_in_two_processes(bank, alone, tmp_path, launcher):
    """The processes restart themselves for the allocator, whoever starts them."""
    recipe = tmp_path / "recipe.yaml"
    content = recipe_for_all(**SETTINGS).model_dump(mode="json")
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ["-m", "chpnet_training", "student", recipe, "--data", bank, "--out", tmp_path / "run"]
    words += ["--workers", 0, "--accelerator", "cpu"]
    if launcher == "torchrun":
        torchrun(*words)
    else:
        start(*words, "--devices", 2)
    assert state_of(tmp_path / "run")["step"] == 6
    assert furthest(alone / "student", tmp_path / "run") < TOLERANCE
    assert (tmp_path / "run" / CHECKPOINT).is_file()


def test_processes_part_without_waiting_for_each_other():
    """In PyTorch 2.13 a group whose last owner is DDP waits for threads that wait for it."""
    start(CHECKOUT / "tests" / "training" / "goodbye.py", 40, 200)


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What came of the scenes of refusal.py."""
    folder = tmp_path_factory.mktemp("refusals")
    start(CHECKOUT / "tests" / "training" / "refusal.py", folder, 200)
    return json.loads((folder / "outcomes.json").read_text())


@pytest.mark.parametrize("scene", SCENES)
def test_a_process_that_refuses_ends_the_others_with_its_reason(refusals, scene):
    found = refusals[scene]
    who, stays = SCENES[scene]["refuses"], SCENES[scene]["stays"]
    reason = f"ends, too, because process {who} of 2 has ended: scan.h5: found noise"
    assert found["code"] == TrainingError.exit_code, found
    assert found["said"].count(reason) == 1, found
    assert found["there"] or not stays


@pytest.fixture(scope="module")
def scenes(bank, alone, tmp_path_factory):
    """What came of the scenes of together.py, by process."""
    folder = tmp_path_factory.mktemp("scenes")
    words = [CHECKOUT / "tests" / "training" / "together.py", bank, folder, alone / "closed.ckpt"]
    code, said = outcome(*TORCHRUN, *words)
    assert code != 0, said
    return [*told_by(folder), said]


def test_a_loss_that_one_process_sees_ends_both(scenes):
    for rank, loss in enumerate(("1", "inf")):
        said, weight = scenes[rank]["infinite"]
        assert f"step 7, student, process {rank} of 2: expected a finite loss" in said
        assert f"found loss {loss} and a gradient norm of 1.0" in said
        assert weight == 1.0


def test_steps_are_left_out_by_the_gradient_of_all(scenes):
    one, two, _ = scenes
    assert one["wild"] == two["wild"]
    assert one["wild"][:2] == [
        True,
        False,
    ]  # means 5.5 and 50.5; 8 is the limit


def test_usefulness_is_that_of_all(scenes):
    one, two, _ = scenes
    assert one["wrong"] == two["wrong"]
    shares = one["wrong"][0]
    assert shares[0] > 0 > shares[1]


def test_processes_with_different_checkpoints_do_not_begin(scenes):
    for rank in (0, 1):
        assert "in all 2 processes, found them at steps 3, 0;" in scenes[rank]["folder"]


def test_processes_with_different_data_do_not_begin(scenes):
    for rank in (0, 1):
        said = scenes[rank]["data"]
        assert "--data bank.h5: expected the same file in all 2 processes, found checksums" in said


def test_a_process_may_work_alone_for_longer_than_the_others_wait(scenes):
    assert all(scenes[rank]["long"] > 8 for rank in (0, 1))


def test_a_process_that_does_not_answer_is_named(scenes):
    said, seconds = scenes[0]["silent"]
    assert said.startswith("process 0 of 2: expected an answer of the other processes, found: ")
    assert "this one is at step 1, missing: process 1 at step 0;" in said
    assert "--collective-timeout" in said
    assert 7 < seconds < 120
    assert "silent" not in scenes[1]  # it was ended, not waited for
