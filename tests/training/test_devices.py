"""Where training runs, and what mixed precision may round."""

import pytest
import torch

from chpnet_stream.errors import ConfigurationError
from chpnet_training.dataset import Slices, collate
from chpnet_training.devices import make_fabric
from chpnet_training.runs import NETWORKS, build_network
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import cpu, make_run, recipe_for_all, state_of

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"accelerator": "cpu", "precision": "16-mixed"}, r"found a CPU.*take bf16-mixed"),
        ({"precision": "8-bit"}, "expected a precision of 32-true"),
        pytest.param({"accelerator": "cuda"}, "found none; take cpu", marks=NO_GPU),
        pytest.param({"precision": "16-mixed"}, "expected a GPU, found a CPU", marks=NO_GPU),
        ({"accelerator": "cpu", "devices": 0}, "found that it can't be had"),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(options, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        make_fabric(**options)
    assert "\n" not in str(caught.value)


def test_the_world_of_torchrun_is_taken_and_no_other(monkeypatch):
    world = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3"}
    for name, value in (world | {"RANK": "4", "LOCAL_RANK": "0", "WORLD_SIZE": "6"}).items():
        monkeypatch.setenv(name, value)
    assert make_fabric(accelerator="cpu").world_size == 6
    assert make_fabric(accelerator="cpu", devices=2, nodes=3).world_size == 6
    with pytest.raises(ConfigurationError, match="2 processes on 3 machines"):
        make_fabric(accelerator="cpu", devices=4)


class Watched:
    """A* A that remembers what it was given and gave."""

    def __init__(self, normal):
        self.normal, self.types = normal, set()

    def __call__(self, x):
        made = self.normal(x)
        self.types |= {x.dtype, made.dtype}
        return made


@pytest.mark.parametrize("task", ["kspace", "superres"])
@pytest.mark.parametrize("name", [*NETWORKS, "chpnet"])
def test_convolutions_are_rounded_and_data_consistency_is_not(bank, name, task):
    changes = {"student": {"task": task}, "superres": {"matrix": 32}}
    if name == "chpnet":
        changes["student"]["architecture"] = "chpnet"
    recipe = recipe_for_all(**changes)
    fabric = cpu(precision="bf16-mixed")
    network = build_network(recipe, "student" if name == "chpnet" else name)
    convolved = set()
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(lambda module, given, made: convolved.add(made.dtype))
    batch = collate(Slices(bank, "train", recipe)[0])
    exact = network(batch.start, batch.adjoint, batch.normal, batch.noise).detach()
    assert convolved == {torch.float32}
    convolved.clear()
    watched = Watched(batch.normal)
    mixed = fabric.setup_module(network)
    image = mixed(batch.start, batch.adjoint, watched, batch.noise)
    assert convolved == {torch.bfloat16}
    assert watched.types == (set() if name == "unet" else {torch.float32})
    assert image.dtype == torch.float32
    error = float((image.detach() - exact).norm())
    assert 0 < error < 0.05 * float((exact - batch.start).norm())


@pytest.mark.parametrize("kind", ["student", "teacher", "distill"])
def test_mixed_precision_learns(bank, tmp_path, kind):
    recipe = recipe_for_all(
        60,
        20,
        optimizer={"learning_rate": 4e-3, "warmup": 10, "average": 0.9},
        simulation={"noise": (0.08, 0.12), "accelerations": (3, 4)},
        student={"widths": (8, 16)},
        validation={"slices": 4},
        distillation={"weight": 0.3},
    )
    teacher = tmp_path / "teacher"
    if kind == "distill":
        make_run("teacher", recipe_for_all(2, 2), bank, teacher).run()
    fabric = cpu(precision="bf16-mixed")
    trainer = make_run(
        kind, recipe, bank, tmp_path / "run", fabric=fabric, teacher=teacher / "last.ckpt"
    )
    assert trainer.run()
    assert trainer.scores["psnr"] > trainer.scores["start_psnr"] + 1
    state = state_of(tmp_path / "run")
    kinds = {w.dtype for network in state["networks"].values() for w in network.values()}
    assert kinds == {torch.float32}


def test_a_mixed_run_goes_on_to_the_same_bits(bank, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    make_run("student", recipe_for_all(), bank, whole, fabric=cpu(precision="bf16-mixed")).run()
    finished = False
    while not finished:
        trainer = make_run(
            "student", recipe_for_all(), bank, cut, fabric=cpu(precision="bf16-mixed")
        )
        finished = trainer.run(max_seconds=0.0)
    one, two = state_of(whole)["networks"]["student"], state_of(cut)["networks"]["student"]
    assert all(torch.equal(one[key], two[key]) for key in one)
