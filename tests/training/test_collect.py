import numpy as np
import pytest

from chpnet_stream.errors import InputError
from chpnet_training.bank import SourceBank
from chpnet_training.collect import CollectOptions, collect
from chpnet_training.readers import SourceImage
from chpnet_training.sources import Source
from tests.training.test_cleaning import head
from tests.training.test_duplicates import COPIES

NO_SPLIT = CollectOptions(validation=0)


def images(count, per_subject=1, size=200, private=False, **more):
    return [
        SourceImage(
            head(size, seed=number), f"s{number // per_subject}", f"image{number}",
            private=private, **more,
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    sources = [
        Source("volumes", "CC0", images(12, per_subject=3, size=180), weight=2.5, distinct=True),
        Source("held", "MIT", images(2), split="val", distinct=True),
    ]
    out = tmp_path_factory.mktemp("bank") / "data.h5"
    return collect(sources, out, CollectOptions(validation=0.25, test=0.25))


def test_air_is_dark_and_the_head_fills_the_image(bank):
    assert len(bank) == 14
    assert np.percentile(bank[0], 5) == 0
    assert np.mean(bank[0] > 0.2) > 0.55
    assert len({tuple(shape) for shape in bank.shapes}) > 1


def test_subjects_stay_on_one_side(bank):
    volumes = np.array([subject.startswith("volumes/") for subject in bank.subjects])
    counts = [np.count_nonzero(bank.split[volumes] == side) for side in ("train", "val", "test")]
    assert counts == [6, 3, 3]
    for subject in set(bank.subjects):
        assert len(set(bank.split[bank.subjects == subject])) == 1
    assert set(bank.split[~volumes]) == {"val"}


def named(label, seeds, **facts):
    """An image of each of six people."""
    return [
        SourceImage(head(200, seed=seed), f"{person}", f"{label} {person}", **facts)
        for person, seed in enumerate(seeds)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_person_in_several_sources_is_on_one_side(tmp_path, seed):
    """BIDS or a pattern names them in two sources, a patient's identifier in two others."""
    sources = [
        Source("volumes", "CC0", named("a", range(6), named=True), distinct=True),
        Source("pictures", "CC0", named("b", range(6, 12), named=True), distinct=True),
        Source("dicom", "CC0", named("c", range(12, 18), private=True), distinct=True),
        Source("raw", "CC0", named("d", range(18, 24), private=True), distinct=True),
    ]
    options = CollectOptions(seed=seed, validation=0.3, test=0.2)
    bank = collect(sources, tmp_path / "data.h5", options)
    assert len(bank) == 24
    assert bank.manifest["splits"]["val"] == {"images": 8, "subjects": 2}
    assert len(set(bank.subjects)) == 6
    people = np.array([origin[-1] for origin in bank.origins])
    for person in set(people):
        assert len(set(bank.split[people == person])) == 1
        assert len(set(bank.subjects[people == person])) == 1
    # whose name is a patient's identifier in one source is hashed in all
    assert all(subject.startswith("patient-") for subject in bank.subjects)


def test_files_of_one_name_in_two_sources_are_two_subjects(tmp_path):
    sources = [Source(name, "CC0", images(3), distinct=True) for name in ("a", "b")]
    bank = collect(sources, tmp_path / "data.h5", NO_SPLIT)
    assert set(bank.subjects) == {f"{source}/s{n}" for source in "ab" for n in range(3)}


@pytest.mark.parametrize("published", [False, True])
def test_another_name_of_the_folder_changes_no_side(tmp_path, published):
    """The name of published data is always the same, and counts."""

    def sides(name):
        source = Source(name, "CC0", images(12), distinct=True, published=published)
        options = CollectOptions(validation=0.4)
        return list(collect([source], tmp_path / f"{name}.h5", options).split)

    assert (sides("downloads") == sides("renamed")) is not published


def test_weights_and_manifest(bank):
    assert set(bank.weights[:12]) == {2.5}
    entry = bank.manifest["sources"]["volumes"]
    assert entry["licence"] == "CC0"
    assert (entry["kept"], entry["subjects"], entry["train"], entry["val"]) == (12, 4, 6, 3)
    assert bank.manifest["splits"]["val"] == {"images": 5, "subjects": 3}
    assert bank.manifest["settings"]["validation"] == 0.25


def test_the_same_data_and_seed_give_the_same_file(tmp_path):
    def make(name, seed, **more):
        source = Source("a", "CC0", images(12, private=True), distinct=True)
        options = CollectOptions(seed=seed, validation=0.5)
        return collect([source], tmp_path / name, options, **more)

    one, again = make("1.h5", 1, salt="x"), make("2.h5", 1, salt="x")
    assert one.checksum == again.checksum
    # without a salt the names are others every time, and the splits the same
    secret, secret2 = make("3.h5", 1), make("4.h5", 1)
    assert not set(secret.subjects) & set(secret2.subjects)
    np.testing.assert_array_equal(secret.split, one.split)
    np.testing.assert_array_equal(secret2.split, one.split)
    assert list(make("5.h5", 2).split) != list(one.split)


def test_identifiers_of_patients_are_not_stored(tmp_path):
    source = Source("a", "CC0", images(2, private=True), distinct=True)
    bank = collect([source], tmp_path / "data.h5", NO_SPLIT, salt="x")
    assert all(subject.startswith("patient-") for subject in bank.subjects)
    content = (tmp_path / "data.h5").read_bytes()
    assert b"s0" not in content
    assert b"image0" in content


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_copies_in_another_source_are_dropped_and_counted(tmp_path, change):
    copy = SourceImage(np.ascontiguousarray(change(head(seed=1))), "copy", "copy")
    sources = [
        Source("a", "CC0", images(3), pictures=True),
        Source("b", "MIT", [copy, *images(1, size=100)], pictures=True),
    ]
    bank = collect(sources, tmp_path / "data.h5", CollectOptions(validation=0))
    assert list(bank.origins) == ["a/image0", "a/image1", "a/image2"]
    assert bank.manifest["sources"]["b"]["dropped"] == {
        "near-duplicate": 1,
        "shorter side below 160 pixels": 1,
    }
    assert bank.manifest["dropped"]["near-duplicate"] == 1


def test_a_copy_of_the_same_subject_is_dropped_and_neighbours_stay(tmp_path):
    """As a DICOM series that lies there twice: its images are those of one patient."""
    series = images(3, per_subject=3, private=True)
    source = Source("dicom", "CC0", [*series, *series])
    bank = collect([source], tmp_path / "data.h5", NO_SPLIT)
    assert len(bank) == 3
    assert bank.manifest["dropped"] == {"copy of the same file": 3}


def test_look_alikes_become_one_subject(tmp_path):
    one, other = images(1)[0].magnitude, head(seed=5)
    # half way between two heads: no copy, and still much alike
    alike = SourceImage(0.6 * one + 0.4 * other, "b", "b")
    items = [SourceImage(one, "a", "a"), alike, SourceImage(one.T.copy(), "c", "c")]

    def subjects(unnamed):
        source = Source("s", "CC0", items, pictures=True, unnamed=unnamed)
        out = tmp_path / f"{unnamed}.h5"
        return list(collect([source], out, NO_SPLIT).subjects)

    assert subjects(unnamed=False) == ["s/a", "s/b", "s/c"]
    assert subjects(unnamed=True) == ["s/a", "s/a", "s/c"]


def test_look_alikes_take_the_name_of_a_person_and_people_keep_theirs(tmp_path):
    one, other = head(seed=0), head(seed=5)
    alike = [share * one + (1 - share) * other for share in (0.6, 0.45)]
    items = [
        SourceImage(one, "a", "a"),
        SourceImage(alike[0], "sub-1", "b", named=True),
        SourceImage(alike[1], "sub-2", "c", named=True),
    ]
    source = Source("s", "CC0", items, pictures=True, distinct=True)
    bank = collect([source], tmp_path / "data.h5", NO_SPLIT)
    assert list(bank.subjects) == ["sub-1", "sub-1", "sub-2"]


def test_kspace_goes_with_its_image(tmp_path):
    kspace = np.ones((2, 8, 8), dtype=np.complex64)
    items = [*images(1), SourceImage(head(seed=3), "raw", "raw", (1.0, 2.0), kspace=kspace)]
    bank = collect([Source("a", "CC0", items)], tmp_path / "data.h5", NO_SPLIT)
    assert bank.kspace(0) is None
    np.testing.assert_array_equal(bank.kspace(1), kspace)
    assert bank.pixel_size_mm[1].tolist() == [1, 2]
    assert bank.manifest["with k-space"] == 1


def test_nothing_left_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no image is left.*1 shorter side below 160"):
        collect([Source("a", "CC0", images(1, size=100))], tmp_path / "data.h5")
    assert list(tmp_path.iterdir()) == []


def test_one_subject_cannot_be_split(tmp_path, caplog):
    source = Source("a", "CC0", images(4, per_subject=4))
    with pytest.raises(InputError, match=r"found 1 subjects.*name subjects by --subject-from$"):
        collect([source], tmp_path / "data.h5")
    no_validation = CollectOptions(validation=0, test=0.1)
    with pytest.raises(InputError, match=r"hold one out for 'test'.*, or give --test 0$"):
        collect([source], tmp_path / "data.h5", no_validation)
    alike = Source("a", "CC0", images(4, per_subject=4, private=True))
    with pytest.raises(InputError, match=r"by their identifiers.*--ignore-identifiers with"):
        collect([alike], tmp_path / "data.h5")
    assert list(tmp_path.iterdir()) == []
    assert not caplog.text
    assert len(collect([source], tmp_path / "data.h5", NO_SPLIT)) == 4
    assert "no image is held out for validation" in caplog.text


def test_an_error_in_the_middle_leaves_nothing(tmp_path):
    def broken():
        yield images(1)[0]
        raise InputError("scan.h5: damaged")

    with pytest.raises(InputError, match="damaged"):
        collect([Source("a", "CC0", broken())], tmp_path / "data.h5")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told(tmp_path):
    told = []
    items = [*images(2), *images(1, size=100)]
    collect(
        [Source("a", "CC0", items)],
        tmp_path / "data.h5",
        NO_SPLIT,
        report=lambda *found: told.append(found),
    )
    assert told == [("a", 1, 0), ("a", 2, 0), ("a", 2, 1)]
    assert len(SourceBank.load(tmp_path / "data.h5")) == 2
