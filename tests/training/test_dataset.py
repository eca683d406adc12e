import numpy as np
import pytest
import torch

from chpnet_stream.errors import ConfigurationError, InputError, OutputError
from chpnet_stream.network.normal import to_channels
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.operators import SenseOperator
from chpnet_training.dataset import (
    START_ITERATIONS,
    START_REGULARIZATION,
    FixedSlices,
    Slices,
    collate,
    step_loader,
)
from chpnet_training.recipe import Recipe
from tests.helpers import no_file_larger_than
from tests.training.tiny import SIMULATION, tiny_bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")


def recipe(seed=1, task="kspace", data=None, superres=None, **simulation):
    return Recipe.model_validate(
        {
            "name": "x",
            "seed": seed,
            "student": {"task": task},
            "data": data or {},
            "simulation": SIMULATION | simulation,
            "superres": {"matrix": 32} | (superres or {}),
        }
    )


def dataset(bank, split="train", seed=1, **changes):
    return Slices(bank, split, recipe(seed, **changes))


def test_items_depend_on_seed_number_and_split_only(bank):
    one = dataset(bank)
    assert torch.equal(one[7][0].adjoint, dataset(bank)[7][0].adjoint)
    others = (one[8], dataset(bank, seed=2)[7], dataset(bank, "val")[7])
    assert len({float(one[7][0].noise), *(float(o[0].noise) for o in others)}) == 4


def test_the_data_may_have_a_seed_of_their_own(bank):
    one, two = dataset(bank, data={"seed": 5}), dataset(bank, seed=2, data={"seed": 5})
    assert torch.equal(one[7][0].adjoint, two[7][0].adjoint)


def test_split_keeps_subjects_apart(bank):
    assert dataset(bank).indices.tolist() == [0, 1, 2]
    assert dataset(bank, "val").indices.tolist() == [3]


def test_images_are_chosen_by_origin_and_number(bank):
    assert dataset(bank, data={"origin": "phantom/b"}).indices.tolist() == [1]
    chosen = dataset(bank, data={"images": 2}).indices
    assert len(chosen) == 2
    assert chosen.tolist() == dataset(bank, data={"images": 2}).indices.tolist()
    assert dataset(bank, "val", data={"images": 2, "seed": 3}).indices.tolist() == [3]
    with pytest.raises(InputError, match=r"begins with 'knee', found none among 3; change data\.o"):
        dataset(bank, data={"origin": "knee"})


def test_data_without_a_split_say_how_to_make_it(tmp_path):
    bare = tiny_bank(tmp_path / "bare.h5", ("train",) * 4)
    with pytest.raises(
        InputError, match=r"bare\.h5: .*'val', found none at all.*--validation 0\.1"
    ):
        dataset(bare, "val")
    dataset(bare)


def numbers_of(loader):
    return [list(numbers) for numbers in loader.sampler]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_slice_is_given_twice(bank, world):
    data = dataset(bank)
    shares = [
        numbers_of(step_loader(data, 2, 7, batch=6, rank=rank, world=world))
        for rank in range(world)
    ]
    for step, parts in enumerate(zip(*shares, strict=True), start=2):
        assert all(len(part) == 6 // world for part in parts)
        assert sorted(n for part in parts for n in part) == list(range(6 * step, 6 * step + 6))
    with pytest.raises(ConfigurationError, match=r"data\.batch = 6: .*4 devices"):
        step_loader(data, 0, 1, batch=6, world=4)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_samples(bank, workers):
    data = dataset(bank)
    here = [samples[0] for samples in step_loader(data, 3, 7)]
    there = [samples[0] for samples in step_loader(data, 3, 7, workers=workers)]
    assert len(here) == len(there) == 4
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.adjoint, b.adjoint)
        assert torch.equal(a.maps, b.maps)
    assert torch.equal(here[0].adjoint, data[3][0].adjoint)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_told_as_it_is_by_a_worker_too(tmp_path, workers):
    path = tiny_bank(tmp_path / "bank.h5", kspace={0: np.zeros((4, 32, 32), dtype=np.complex64)})
    data = dataset(path, data={"origin": "phantom/a"})
    (samples,) = step_loader(data, 0, 1, workers=workers)
    with pytest.raises(InputError, match="no coil maps") as caught:
        collate(samples)
    said = str(caught.value)
    assert said.startswith(f"{path}: image 0 (phantom/a): k-space (4, 32, 32): ")
    assert "Traceback" not in said


@pytest.mark.parametrize("workers", [0, 2])
def test_fixed_slices_tell_an_error_as_it_is(tmp_path, workers):
    path = tiny_bank(tmp_path / "bank.h5", kspace={0: np.zeros((4, 32, 32), dtype=np.complex64)})
    data = dataset(path, data={"origin": "phantom/a"})
    with pytest.raises(InputError, match="no coil maps") as caught:
        FixedSlices(data, 4, tmp_path / "train.pt", 3, workers=workers)
    assert str(caught.value).startswith(f"{path}: image 0 (phantom/a): k-space (4, 32, 32): ")
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "train.pt").exists()


def test_fixed_slices_are_simulated_once_and_repeated_in_another_order(bank, tmp_path):
    data, file, made = dataset(bank, data={"batch": 2}), tmp_path / "x" / "train.pt", []
    fixed = FixedSlices(data, 6, file, 3, lambda done, all_of_them: made.append(done))
    assert made == [1, 2, 3, 4, 5, 6]
    first = [float(fixed[i][0].noise) for i in range(6)]
    assert sorted(first) == sorted(float(data[i][0].noise) for i in range(6))
    second = [float(fixed[i][0].noise) for i in range(6, 12)]
    assert sorted(second) == sorted(first)
    assert second != first
    again = FixedSlices(data, 6, file, 3, lambda done, all_of_them: made.append(done))
    assert len(made) == 6
    assert [float(again[i][0].noise) for i in range(12)] == first + second
    assert torch.equal(again[0][0].adjoint, fixed[0][0].adjoint)
    assert [p.name for p in file.parent.iterdir()] == ["train.pt"]
    with pytest.raises(InputError, match="found others; remove the file"):
        FixedSlices(dataset(bank, seed=2, data={"batch": 2}), 6, file, 3)
    other = tiny_bank(tmp_path / "other.h5", ("val", "train", "train", "train"))
    said = r"expected slices of other\.h5 \(checksum \w{12}\), found those of bank\.h5 \(checksum"
    with pytest.raises(InputError, match=said):
        FixedSlices(dataset(other, data={"batch": 2}), 6, file, 3)
    with pytest.raises(ConfigurationError, match=r"data\.fixed = 5: expected a multiple of 2"):
        FixedSlices(data, 5, tmp_path / "y.pt", 3)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_make_the_same_fixed_slices(bank, tmp_path):
    data, made = dataset(bank, strips=2), []
    here = FixedSlices(data, 3, tmp_path / "here.pt", 3)
    there = FixedSlices(
        data, 3, tmp_path / "there.pt", 3, lambda done, wanted: made.append((done, wanted)), 2
    )
    assert made == [(1, 3), (2, 3), (3, 3)]
    for one, two in zip(here.slices, there.slices, strict=True):
        assert len(one) == len(two) == 2
        for a, b in zip(one, two, strict=True):
            assert a["noise"] == b["noise"]
            for name in ("maps", "mask", "adjoint", "target"):
                assert torch.equal(a[name], b[name]), name


def test_a_full_disk_is_told_and_the_next_try_makes_the_slices(bank, tmp_path):
    file = tmp_path / "train.pt"
    with no_file_larger_than(1000), pytest.raises(OutputError, match=r"can't write .*train\.pt"):
        FixedSlices(dataset(bank), 2, file, 3)
    assert list(tmp_path.iterdir()) == []
    assert len(FixedSlices(dataset(bank), 2, file, 3).slices) == 2


def test_damaged_slices_are_refused_with_what_to_do(bank, tmp_path):
    file = tmp_path / "train.pt"
    FixedSlices(dataset(bank), 2, file, 3)
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 16
    for content in (b"", whole[:-1000], bytes(changed)):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"train\.pt: .*damaged.*remove it, and they are sim"):
            FixedSlices(dataset(bank), 2, file, 3)


def test_slices_that_do_not_say_their_data_are_taken_with_a_warning(bank, tmp_path, caplog):
    file = tmp_path / "train.pt"
    FixedSlices(dataset(bank), 2, file, 3)
    assert not caplog.text
    content = torch.load(file, weights_only=True)
    del content["data"]
    torch.save(content, file)
    assert len(FixedSlices(dataset(bank), 2, file, 3).slices) == 2
    assert "does not say which data it was made of" in caplog.text


def test_a_step_of_superres_has_one_factor(bank, tmp_path):
    data = dataset(bank, task="superres", data={"batch": 2})
    factors = [samples[0].factor for samples in (data[i] for i in range(8))]
    assert factors == [2, 2, 4, 4, 2, 2, 4, 4]
    fixed = FixedSlices(data, 8, tmp_path / "train.pt", 3)
    for samples in step_loader(fixed, 0, 10, batch=2):
        assert len({sample.factor for sample in samples}) == 1
        batch = collate(samples)
        assert batch.start.shape == batch.target.shape == (2, 1, 32, 32)
    mixed = [data[1][0], data[2][0]]
    with pytest.raises(ConfigurationError, match=r"one factor in a step, found \[2, 4\]"):
        collate(mixed)


def test_superres_batches_are_what_was_measured(bank):
    (sample,) = dataset(bank, task="superres", superres={"noise": 0.0, "factors": (4,)})[0]
    batch = collate([sample])
    assert sample.low.shape == (8, 8)
    assert float((batch.normal(batch.target) - batch.adjoint).abs().max()) < 1e-5
    assert float(batch.noise) == 0.0
    better = (batch.start - batch.target).square().sum()
    assert float(better) < float((batch.adjoint - batch.target).square().sum())


def test_matrices_of_a_step_must_be_one(bank):
    data = dataset(bank)
    samples = [data[i][0] for i in range(12)]
    with pytest.raises(ConfigurationError, match=r"set data\.batch to 1"):
        collate(samples)


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
