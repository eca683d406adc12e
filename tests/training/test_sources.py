import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from chpnet_stream.errors import ConfigurationError, InputError
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.sources import ReadOptions, find_sources, phantom_source
from tests.helpers import small_options
from tests.training.readers.dicom_files import write_dicom
from tests.training.test_cleaning import head


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(255 * head(seed=seed)).astype(np.uint8)).save(path)
    return path


def only(sources):
    (source,) = sources
    return source


@pytest.fixture
def folder(tmp_path):
    """Something of every kind, as a folder of downloads has it."""
    root = tmp_path / "downloads"
    save(root / "glioma" / "a.png")
    save(root / "glioma" / "b.jpg", 1)
    solid = np.stack([head(160)] * 3, axis=-1)
    nibabel.save(nibabel.Nifti1Image(solid, np.diag([1, 1, 5, 1])), root / "sub-07_T1w.nii.gz")
    write_dicom(root / "dicom" / "IM1", np.arange(48, dtype=np.uint16).reshape(6, 8))
    with h5py.File(root / "file1.h5", "w") as file:
        file["reconstruction_esc"] = np.stack([head()] * 2)
        file.attrs["patient_id"] = "p7"
    simulate_scan(root / "scan.h5", small_options(acceleration=1))
    (root / "readme.txt").write_text("about")
    return root


@pytest.fixture(autouse=True)
def dicom_folder(tmp_path):
    (tmp_path / "downloads" / "dicom").mkdir(parents=True)


def test_every_kind_is_found(folder):
    sources, ignored, files = find_sources([folder], ReadOptions(licence="CC BY"))
    found = {source.kind: list(source.images) for source in sources}
    counts = {kind: len(images) for kind, images in found.items()}
    assert counts == {"images": 2, "nifti": 3, "dicom": 1, "fastmri": 2, "ismrmrd": 2}
    assert ignored == {"of no known kind": 1}
    assert files == 6
    assert {source.licence for source in sources} == {"CC BY"}
    assert {source.name for source in sources} == {
        "downloads", "downloads 2", "downloads 3", "downloads 4", "dicom",
    }  # fmt: skip
    private = {kind for kind, images in found.items() if images[0].private}
    assert private == {"dicom", "fastmri"}
    assert found["nifti"][0].subject == "sub-07"
    assert [image.origin for image in found["images"]] == ["glioma/a.png", "glioma/b.jpg"]
    assert found["ismrmrd"][0].kspace is not None


def test_what_is_hidden_is_left_alone(tmp_path):
    root = tmp_path / ".data"  # what was asked for is read, whatever its name
    save(root / "a.png")
    save(root / ".ipynb_checkpoints" / "a-checkpoint.png")
    save(root / ".b.png")
    (source,), ignored, files = find_sources([root], ReadOptions())
    assert [image.origin for image in source.images] == ["a.png"]
    assert (files, ignored) == (1, {})


def test_names_of_dicom_folders_are_not_told(tmp_path):
    folder = tmp_path / "Doe_Jane"
    folder.mkdir()
    path = write_dicom(folder / "IM1", np.arange(48, dtype=np.uint16).reshape(6, 8))
    source = only(find_sources([folder], ReadOptions())[0])
    (image,) = source.images
    assert source.name == "dicom"
    assert "Doe" not in image.origin + image.subject
    assert only(find_sources([path], ReadOptions())[0]).name == "dicom"


@pytest.mark.parametrize(
    ("subject_from", "expected"),
    [
        ("file", ["p1/x_1", "p1/x_2", "p2/x_1"]),
        ("parent", ["p1", "p1", "p2"]),
        (r"x_(\d)", ["1", "2", "1"]),
        (r"p\d", ["p1", "p1", "p2"]),
    ],
)
def test_subjects(tmp_path, subject_from, expected):
    for name in ("p1/x_1", "p1/x_2", "p2/x_1"):
        save(tmp_path / "set" / f"{name}.png")
    options = ReadOptions(subject_from=subject_from)
    source = only(find_sources([tmp_path / "set"], options)[0])
    assert [image.subject for image in source.images] == expected
    assert source.unnamed == (subject_from == "file")


def test_links_are_in_the_folder_that_they_lie_in(tmp_path):
    """As DataLad keeps data: every file is a link into a folder of its own."""
    for number, name in enumerate(("p1/a", "p1/b", "p2/c")):
        kept = save(tmp_path / "set" / ".git" / "annex" / f"KEY{number}" / "KEY.png", number)
        link = tmp_path / "set" / f"{name}.png"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(kept)
    source = only(find_sources([tmp_path / "set"], ReadOptions(subject_from="parent"))[0])
    assert [image.subject for image in source.images] == ["p1", "p1", "p2"]
    alone = find_sources([tmp_path / "set" / "p2" / "c.png"], ReadOptions(subject_from="parent"))
    assert next(iter(only(alone[0]).images)).subject == "p2"


@pytest.mark.parametrize(
    ("names", "subject_from", "told"),
    [
        (("p1/t1", "p1/t2", "p2/t1", "p2/t2"), "file", True),
        (("p1/t1", "p1/t2", "p2/t1", "p2/t2"), "parent", False),
        (("sub-1/t1", "sub-1/t2", "sub-2/t1", "sub-2/t2"), "file", False),
        (("p1/t1", "p2/t1"), "file", False),
        (("p1", "p2", "p3"), "file", False),
    ],
)
def test_volumes_of_one_person_in_a_folder_are_told(tmp_path, caplog, names, subject_from, told):
    for name in names:
        path = tmp_path / "set" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)), path)
    find_sources([tmp_path / "set"], ReadOptions(subject_from=subject_from))
    assert ("4 volumes in 2 folders" in caplog.text) is told
    assert bool(caplog.text) is told


def test_people_are_known_by_name_and_files_are_not(tmp_path):
    save(tmp_path / "set" / "sub-01" / "a.png")
    save(tmp_path / "set" / "b.png")
    save(tmp_path / "sub-02" / "c.png")
    paths = [tmp_path / "set", tmp_path / "sub-02"]
    found = [image for source in find_sources(paths, ReadOptions())[0] for image in source.images]
    assert [(image.subject, image.named) for image in found] == [
        ("b", False), ("sub-01", True), ("sub-02", True),
    ]  # fmt: skip
    alone = only(find_sources([tmp_path / "sub-02" / "c.png"], ReadOptions())[0])
    assert next(iter(alone.images)).subject == "sub-02"
    for subject_from in ("parent", r"(\w)\.png"):
        options = ReadOptions(subject_from=subject_from)
        for source in find_sources(paths, options)[0]:
            assert all(image.named for image in source.images)


def test_identifiers_that_are_all_alike_can_be_left_aside(tmp_path):
    """Anonymised to one patient: folders say who is who, and are hashed where DICOM is."""
    for person in ("p1", "p2"):
        folder = tmp_path / "set" / person
        folder.mkdir(parents=True)
        for number in (1, 2):
            pixels = number * np.arange(48, dtype=np.uint16).reshape(6, 8)
            write_dicom(folder / f"IM{number}", pixels, PatientID="ANON")
        with h5py.File(folder / "scan.h5", "w") as file:
            file["reconstruction_esc"] = head()[None]
            file.attrs["patient_id"] = "ANON"

    def found(**more):
        sources, _, _ = find_sources([tmp_path / "set"], ReadOptions(**more))
        return {
            (image.subject, image.private, source.kind)
            for source in sources
            for image in source.images
        }

    assert {subject for subject, _, _ in found(subject_from="parent")} == {"ANON"}
    for how in ("parent", r"p\d"):
        assert found(subject_from=how, identifiers=False) == {
            (person, kind == "dicom", kind)
            for person in ("p1", "p2")
            for kind in ("dicom", "fastmri")
        }
    with pytest.raises(ConfigurationError, match="every slice of a DICOM series for a patient"):
        found(identifiers=False)
    with pytest.raises(InputError, match="does not match"):
        found(subject_from="q", identifiers=False)


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [("[", ConfigurationError, "regular"), ("q(.)", InputError, r"a\.png.*does not match")],
)
def test_a_pattern_that_does_not_fit_is_told(tmp_path, pattern, error, says):
    path = save(tmp_path / "set" / "a.png")
    source = only(find_sources([path], ReadOptions(subject_from=pattern))[0])
    with pytest.raises(error, match=says):
        list(source.images)


def test_files_are_excluded_by_name_and_path(folder):
    options = ReadOptions(exclude=("glioma/*", "*.h5", "IM*"))
    sources, ignored, _ = find_sources([folder], options)
    assert [source.kind for source in sources] == ["nifti"]
    assert ignored == {"excluded": 5, "of no known kind": 1}


def test_files_given_twice_are_read_once(folder):
    path = folder / "glioma" / "a.png"
    sources, ignored, files = find_sources([path, folder / "glioma"], ReadOptions())
    assert files == 2
    assert ignored == {"given twice": 1}
    assert len(sources) == 2


def test_unreadable_files_are_errors_or_skipped(tmp_path):
    good = save(tmp_path / "set" / "good.png")
    (tmp_path / "set" / "cut.png").write_bytes(good.read_bytes()[:2000])
    (tmp_path / "set" / "text.png").write_text("text")
    with pytest.raises(InputError, match=r"text\.png"):
        find_sources([tmp_path / "set"], ReadOptions())
    (tmp_path / "set" / "text.png").unlink()
    source = only(find_sources([tmp_path / "set"], ReadOptions())[0])
    with pytest.raises(InputError, match=r"cut\.png: not a readable"):
        list(source.images)
    ticks = []
    options = ReadOptions(skip_unreadable=True, tick=ticks.append)
    source = only(find_sources([tmp_path / "set"], options)[0])
    assert [image.origin for image in source.images] == ["good.png"]
    assert source.skipped.counts == {"unreadable": 1}
    assert len(ticks) == 2


def test_kind_can_be_forced(tmp_path):
    path = save(tmp_path / "a.png")
    source = only(find_sources([path], ReadOptions(kind="nifti"))[0])
    with pytest.raises(InputError, match="not a readable NIfTI"):
        list(source.images)


def test_what_is_missing_or_unknown_is_told(tmp_path):
    (tmp_path / "readme.txt").write_text("about")
    (tmp_path / "empty").mkdir()
    for path, says in (
        (tmp_path / "absent", "no such file or folder"),
        (tmp_path / "readme.txt", "of no known kind; expected fastMRI"),
        (tmp_path / "empty", r"nothing to read \(no files\)"),
    ):
        with pytest.raises(InputError, match=says):
            find_sources([path], ReadOptions())


def test_published_data_are_recognised(tmp_path):
    save(tmp_path / "brain-tumor-mri" / "Training" / "glioma" / "1.png")
    (tmp_path / "mr-volumes").mkdir()
    solid = np.stack([head(160)] * 4, axis=-1)
    nibabel.save(nibabel.Nifti1Image(solid, np.eye(4)), tmp_path / "mr-volumes" / "ch2.nii.gz")
    np.save(tmp_path / "mr-volumes" / "t1_coronal_slice.npy", head())
    paths = [tmp_path / "brain-tumor-mri" / "Training", tmp_path / "mr-volumes"]
    sources, _, _ = find_sources(paths, ReadOptions(licence="mine"))
    facts = {source.name: (source.split, source.weight, source.pictures) for source in sources}
    assert facts == {
        "brain-tumor-mri": (None, 1.0, True),
        "ch2.nii.gz": ("train", 2.0, False),
        "t1_coronal_slice": ("val", 1.0, False),
    }
    assert all(source.licence not in ("mine", "") for source in sources)
    assert [len(list(source.images)) for source in sources] == [1, 4, 1]


def test_phantoms_are_a_source_of_heads():
    source = phantom_source(2)
    assert len({image.subject for image in source.images}) == 2
    assert source.distinct


@pytest.mark.parametrize(
    "name",
    ["glioma/a.png", "glioma/b.jpg", "sub-07_T1w.nii.gz", "dicom/IM1", "file1.h5", "scan.h5"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_files_are_read_or_refused_by_name(folder, tmp_path, name):
    """Changed and missing bytes: whatever comes out is images or one error with the file's name."""
    whole = (folder / name).read_bytes()
    path = tmp_path / folder.joinpath(name).name
    rng = np.random.default_rng(0)
    refused = []
    for attempt in range(24):
        content = np.frombuffer(whole, dtype=np.uint8).copy()
        end = len(content) if attempt % 3 else int(rng.integers(1, len(content)))
        spoilt = rng.integers(0, min(len(content), 2000), 8)
        content[spoilt] = rng.integers(0, 256, 8)
        path.write_bytes(content[:end].tobytes())
        try:
            for source in find_sources([path], ReadOptions())[0]:
                list(source.images)
        except InputError as error:
            refused.append(str(error))
    assert refused
    assert all(path.name in message for message in refused)
