import gzip

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from chpnet_stream.errors import InputError
from chpnet_training.readers.detect import detect_kind
from tests.training.readers.dicom_files import write_dicom
from tests.training.tiny import tiny_bank

PIXELS = np.arange(4096, dtype=np.uint8).reshape(64, 64)


def test_kinds_by_content(tmp_path, small_scan):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    np.save(tmp_path / "a.npy", PIXELS)
    nibabel.save(nibabel.Nifti1Image(PIXELS[None], np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti2Image(PIXELS[None], np.eye(4)), tmp_path / "b.nii")
    write_dicom(tmp_path / "IM0001", PIXELS.astype(np.uint16))
    with h5py.File(tmp_path / "file1.h5", "w") as file:
        file["reconstruction_rss"] = np.ones((1, 4, 4))
    kinds = {
        "a.png": "images",
        "a.jpg": "images",
        "a.npy": "images",
        "a.nii.gz": "nifti",
        "b.nii": "nifti",
        "IM0001": "dicom",
        "file1.h5": "fastmri",
    }
    assert {name: detect_kind(tmp_path / name) for name in kinds} == kinds
    assert detect_kind(small_scan) == "ismrmrd"


def test_the_name_does_not_matter(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "scan.h5")
    assert detect_kind(tmp_path / "scan.h5") == "images"


def test_other_files_are_none(tmp_path):
    (tmp_path / "readme.txt").write_text("about")
    (tmp_path / "empty").touch()
    with gzip.open(tmp_path / "log.gz", "w") as file:
        file.write(b"text")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(3)
    tiny_bank(tmp_path / "data.h5")
    for name in ("readme.txt", "empty", "log.gz", "other.h5", "data.h5"):
        assert detect_kind(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.png", b"text", "begins with b'text'"),
        ("a.h5", b"", "it is empty"),
        ("a.nii.gz", b"\x1f\x8b\x08", "not readable as gzip"),
        ("a.nii", b"\0" * 400, "named as a NIfTI volume"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "cut off or damaged"),
    ],
)
def test_broken_promises_are_told(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*{says}"):
        detect_kind(tmp_path / name)


def test_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        detect_kind(tmp_path / "absent")
