import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest

from chpnet_stream.errors import InputError
from chpnet_training.bank import SourceBank
from chpnet_training.store import BankWriter
from tests.physics.cases import phantom
from tests.training.tiny import tiny_bank


@pytest.fixture(scope="module")
def kspace():
    generator = np.random.default_rng(1)
    shape = (3, 20, 30)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


@pytest.fixture
def path(tmp_path):
    return tiny_bank(tmp_path / "data.h5")


@pytest.fixture
def raw(tmp_path, kspace):
    """Two images, of which the second has k-space."""
    two = np.array(["a", "b"], dtype=object)
    path = tmp_path / "raw.h5"
    with BankWriter(path, 64) as writer:
        writer.add(np.ones((64, 10)))
        writer.add(np.eye(40), kspace)
        writer.finish(
            weights=np.array([1.0, 2.5]), split=np.array(["train", "test"], dtype=object),
            subjects=two, origins=two, pixel_size_mm=np.array([[1, 2], [np.nan, np.nan]]),
            manifest={"counts": {"kept": 2}},
        )  # fmt: skip
    return path


def test_images_come_back_in_sixteen_bits(path):
    bank = SourceBank.load(path)
    assert len(bank) == 4
    for i, image in enumerate(bank):
        assert image.dtype == np.float32
        expected = np.clip(phantom((64, 48 + 8 * i)).numpy(), 0, 1)
        np.testing.assert_allclose(image, expected, atol=1 / 65535)
    np.testing.assert_array_equal(bank[-1], bank[3])
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"image {index} of a bank of 4"):
            bank[index]


def test_columns_and_splits(raw):
    bank = SourceBank.load(raw)
    assert bank.weights.tolist() == [1.0, 2.5]
    assert bank.shapes.tolist() == [[64, 10], [40, 40]]
    assert bank.subjects.tolist() == bank.origins.tolist() == ["a", "b"]
    assert [bank.indices(side).tolist() for side in ("train", "val", "test")] == [[0], [], [1]]
    assert bank.pixel_size_mm[0].tolist() == [1, 2]
    assert np.isnan(bank.pixel_size_mm[1]).all()
    assert bank.manifest == {"counts": {"kept": 2}}


def test_kspace_is_exact(raw, kspace):
    bank = SourceBank.load(raw)
    assert bank.raw.tolist() == [False, True]
    assert bank.kspace(0) is None
    np.testing.assert_array_equal(bank.kspace(1), kspace)
    np.testing.assert_array_equal(bank.kspace(-1), kspace)
    with pytest.raises(IndexError):
        bank.kspace(2)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_read_the_same(path, method):
    bank = SourceBank.load(path)
    expected = [image.sum() for image in bank]  # read here before there are workers
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(_sum, [(bank, i % 4) for i in range(40)]))
    assert found == [expected[i % 4] for i in range(40)]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bank))[2], bank[2])  # noqa: S301


def _sum(job):
    bank, index = job
    return bank[index].sum()


def test_no_handle_stays_open(path):
    bank = SourceBank.load(path)
    bank[0]
    with h5py.File(path, "r+") as file:  # refused while a reader has the file
        assert file.attrs["format"]


def test_a_changed_image_is_found(raw):
    bank = SourceBank.load(raw)
    with h5py.File(raw, "r+") as file:
        file["images"][0, 3, 3] = 7
        file["kspace"]["1"][0, 0, 0] = 7
    with pytest.raises(InputError, match="image 0 does not fit its checksum"):
        bank[0]
    with pytest.raises(InputError, match="k-space 1 does not fit its checksum"):
        bank.kspace(1)
    with pytest.raises(InputError, match="image 0"):
        bank.verify()


def test_verify_reads_everything(raw):
    seen = []
    SourceBank.load(raw).verify(seen.append)
    assert seen == [1, 2]


@pytest.mark.parametrize("entry", ["manifest", "weights"])
def test_a_changed_table_is_found(raw, entry):
    with h5py.File(raw, "r+") as file:
        if entry == "manifest":
            file.attrs["manifest"] = "{}"
        else:
            file["table/weights"][0] = 3
    with pytest.raises(InputError, match="does not fit its checksum"):
        SourceBank.load(raw)


def test_what_is_no_training_data_is_refused(tmp_path, path):
    with pytest.raises(InputError, match=r"absent.h5: no such file.*chpnet-train prepare"):
        SourceBank.load(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match=r"text.h5: not readable as training data"):
        SourceBank.load(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="found 'another HDF5 file', expected 'chpnet training"):
        SourceBank.load(tmp_path / "other.h5")
    np.savez(tmp_path / "bank.npz", format=np.array("chpnet source bank 1"))
    with pytest.raises(InputError, match=r"bank\.npz: not readable as training data"):
        SourceBank.load(tmp_path / "bank.npz")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_cut_off_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"data.h5: not readable as training data"):
        SourceBank.load(path)


def test_a_file_that_went_away_is_told(path):
    bank = SourceBank.load(path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        bank[0]
