import pytest
import torch

from chpnet_stream.network.normal import to_channels
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.operators import SenseOperator
from chpnet_training.dataset import (
    START_ITERATIONS,
    START_REGULARIZATION,
    SimulatedSlices,
    collate,
    sample_loader,
)
from chpnet_training.simulation import SimulationConfig
from tests.training.tiny import SIMULATION, tiny_bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.npz")


def dataset(bank, split="train", seed=1, **changes):
    return SimulatedSlices(bank, split, SimulationConfig(**(SIMULATION | changes)), seed)


def test_items_depend_on_seed_number_and_split_only(bank):
    one = dataset(bank)
    assert torch.equal(one[7][0].adjoint, dataset(bank)[7][0].adjoint)
    others = (one[8], dataset(bank, seed=2)[7], dataset(bank, "val")[7])
    assert len({float(one[7][0].noise), *(float(o[0].noise) for o in others)}) == 4


def test_split_keeps_subjects_apart(bank):
    assert dataset(bank).indices.tolist() == [0, 1, 2]
    assert dataset(bank, "val").indices.tolist() == [3]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_samples(bank, workers):
    data = dataset(bank)
    here = [samples[0] for samples in sample_loader(data, 3, 7, 0)]
    there = [samples[0] for samples in sample_loader(data, 3, 7, workers)]
    assert len(here) == len(there) == 4
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.adjoint, b.adjoint)
        assert torch.equal(a.maps, b.maps)
    assert torch.equal(here[0].adjoint, data[3][0].adjoint)


def test_batch_is_what_a_student_takes(bank):
    samples = dataset(bank, strips=2)[0]
    batch = collate(samples)
    lines, columns = samples[0].target.shape
    for image in (batch.start, batch.adjoint, batch.target):
        assert image.shape == (2, 2, lines, columns)
        assert image.dtype == torch.float32
    assert batch.noise.shape == (2, 1, 1, 1)
    assert float(batch.noise[0]) == pytest.approx(samples[0].noise)
    for i, sample in enumerate(samples):
        operator = SenseOperator(sample.maps, sample.mask[:, None])
        start = cg_sense(
            operator.normal,
            sample.adjoint,
            regularization=START_REGULARIZATION,
            iterations=START_ITERATIONS,
            tolerance=0.0,
        )
        torch.testing.assert_close(batch.start[i], to_channels(start[None])[0], atol=1e-4, rtol=0)
        normal = to_channels(operator.normal(sample.target)[None])
        torch.testing.assert_close(batch.normal(batch.target)[i], normal[0], atol=1e-4, rtol=0)


def test_start_is_better_than_zero_filling(bank):
    scan = {"matrix_y": (64, 72), "coils": (8, 8), "virtual_coils": 8, "accelerations": (3,)}
    data = dataset(bank, noise=(0.002, 0.005), partial_fourier=0.0, random_lines=0.0, **scan)
    batches = [collate(data[i]) for i in range(8)]
    before = sum(float((b.adjoint - b.target).norm()) for b in batches)
    after = sum(float((b.start - b.target).norm()) for b in batches)
    assert after < 0.7 * before
