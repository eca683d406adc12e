import nibabel
import numpy as np
import pytest
from PIL import Image

from chpnet_stream.errors import InputError
from chpnet_training.readers import SourceImage
from chpnet_training.sources import Source, SourceBank, build_bank, collect
from tests.training.test_cleaning import head


def images(count, per_subject=1, size=200):
    return [
        SourceImage(head(size, seed=number), f"s{number // per_subject}", f"image{number}")
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def bank():
    sources = [
        Source("volumes", "CC0", images(12, per_subject=3, size=180), weight=2.5),
        Source("held", "MIT", images(2), split="val"),
    ]
    return collect(sources, validation_fraction=0.25)


def test_images_come_back_in_sixteen_bits(bank):
    assert len(bank) == 14
    assert bank[0].dtype == np.float32
    assert 0.85 < bank[0].max() <= 1
    assert len({image.shape for image in bank}) > 1
    np.testing.assert_array_equal(bank[-1], bank[13])
    with pytest.raises(IndexError, match="image 14 of a bank of 14"):
        bank[14]


def test_air_is_dark_and_the_head_fills_the_image(bank):
    assert np.percentile(bank[0], 5) == 0
    filled = np.mean(bank[0] > 0.2)
    assert filled > 0.55


def test_subjects_stay_on_one_side(bank):
    volumes = np.array([subject.startswith("volumes/") for subject in bank.subjects])
    assert np.count_nonzero(bank.split[volumes] == "val") == 3
    for subject in set(bank.subjects):
        assert len(set(bank.split[bank.subjects == subject])) == 1
    assert set(bank.split[~volumes]) == {"val"}
    assert set(bank.indices("train")) | set(bank.indices("val")) == set(range(14))


def test_weights_and_manifest(bank):
    assert set(bank.weights[:12]) == {2.5}
    entry = bank.manifest["sources"]["volumes"]
    assert entry["licence"] == "CC0"
    assert (entry["kept"], entry["subjects"], entry["train"], entry["val"]) == (12, 4, 9, 3)


def test_split_is_decided_by_the_seed():
    def split(seed):
        source = Source("a", "CC0", images(12))
        return list(collect([source], seed=seed, validation_fraction=0.5).split)

    assert split(1) == split(1)
    assert split(1) != split(2)


def test_near_duplicates_are_dropped_and_counted():
    one = images(3)
    mirrored = SourceImage(one[0].magnitude[:, ::-1], "m", "mirrored")
    dimmer = SourceImage(one[1].magnitude * 0.8, "d", "dimmer")
    small = SourceImage(one[2].magnitude[::2, ::2], "x", "small")
    bank = collect([Source("a", "CC0", [*one, mirrored, dimmer, small], pictures=True)])
    assert list(bank.origins) == ["a/image0", "a/image1", "a/image2"]
    assert bank.manifest["sources"]["a"]["dropped"] == {
        "near-duplicate": 2,
        "shorter side below 160 pixels": 1,
    }


def test_look_alikes_become_one_subject():
    one = images(1)[0].magnitude
    alike = one.copy()
    alike[60:110, 60:110] *= np.linspace(0.5, 1.3, 50)[:, np.newaxis]
    alike = np.where(one > 0.1, alike + 0.15 * np.roll(head(seed=4), 3), one)
    items = [SourceImage(one, "a", "a"), SourceImage(alike / alike.max(), "b", "b")]
    apart = collect([Source("s", "CC0", items, pictures=True)], related_distance=0)
    tied = collect([Source("s", "CC0", items, pictures=True)], related_distance=200)
    assert len(set(apart.subjects)) == 2
    assert list(tied.subjects) == ["s/a", "s/a"]


def test_save_and_load(tmp_path, bank):
    path = tmp_path / "bank.npz"
    bank.save(path)
    loaded = SourceBank.load(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bank.npz"]
    np.testing.assert_array_equal(loaded[5], bank[5])
    assert loaded.manifest == bank.manifest
    assert list(loaded.subjects) == list(bank.subjects)


def test_failed_save_leaves_the_old_bank(tmp_path, bank, monkeypatch):
    path = tmp_path / "bank.npz"
    bank.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(bank, "manifest", {"not": {"json"}})
    with pytest.raises(TypeError):
        bank.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["bank.npz"]


def test_what_is_no_bank_is_refused(tmp_path, bank):
    path = tmp_path / "bank.npz"
    with pytest.raises(InputError, match="not a readable bank"):
        SourceBank.load(path)
    bank.save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="not a readable bank"):
        SourceBank.load(path)
    np.savez(path, pixels=np.zeros(3))
    with pytest.raises(InputError, match="no format entry"):
        SourceBank.load(path)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(InputError, match="not a readable bank"):
        SourceBank.load(tmp_path / "a.npy")


def test_contradicting_columns_are_refused(bank):
    with pytest.raises(InputError, match="equal lengths"):
        SourceBank(
            np.zeros(4, dtype=np.uint16),
            np.array([[2, 2]]),
            np.ones(2),
            np.array(["train"]),
            np.array(["a"]),
            np.array(["a"]),
            {},
        )


def test_nothing_left_is_refused():
    with pytest.raises(InputError, match="no image is left"):
        collect([Source("a", "CC0", images(1, size=100))])


@pytest.fixture
def data_root(tmp_path):
    folder = tmp_path / "brain-tumor-mri" / "Training" / "glioma"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = np.round(255 * head(seed=number)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "readme.txt").write_text("about")
    volumes = tmp_path / "mr-volumes"
    volumes.mkdir()
    solid = np.stack([head(160)] * 4, axis=-1)
    nibabel.save(nibabel.Nifti1Image(solid, np.eye(4)), volumes / "ch2.nii.gz")
    np.save(volumes / "t1_coronal_slice.npy", head())
    return tmp_path


def test_build_reads_the_known_folders(data_root):
    bank = build_bank(data_root)
    kept = {name: entry["kept"] for name, entry in bank.manifest["sources"].items()}
    assert kept == {"brain-tumor-mri/glioma": 3, "ch2.nii.gz": 4, "t1_coronal_slice": 1}
    skipped = bank.manifest["sources"]["brain-tumor-mri/glioma"]["skipped by the reader"]
    assert skipped == {"not an image": 1}


def test_bank_of_known_folders_is_stored(data_root):
    out = data_root / "bank.npz"
    build_bank(data_root).save(out)
    assert len(SourceBank.load(out)) == 8


def test_a_wrong_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="found none of"):
        build_bank(tmp_path)
