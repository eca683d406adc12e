import nibabel
import numpy as np
import pytest

from chpnet_stream.errors import InputError
from chpnet_training.readers import SkipCounter
from chpnet_training.readers.nifti import read_nifti, square_orientations


@pytest.fixture
def volume():
    """Array `right anterior superior` of 8 x 10 x 12 with a bright anterior-superior corner."""
    data = np.full((8, 10, 12), 50, dtype=np.int16)
    data[:, 8:, 10:] = 200
    data[:, :, 0] = 0
    return data


def save(path, data, zooms=(1.0, 2.0, 3.0), flip=False):
    affine = np.diag([*zooms, 1.0])
    if flip:  # stored left to right and posterior first
        affine[0, 0] *= -1
        data = data[::-1]
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def test_axial_slices_have_anterior_on_top_and_one_scale(tmp_path, volume):
    images = list(read_nifti(save(tmp_path / "v.nii.gz", volume), orientations=["axial"]))
    assert len(images) == 11  # the empty slice is left out
    top = images[-1]
    assert top.magnitude.shape == (10, 8)
    np.testing.assert_allclose(top.magnitude[:2], 1)
    np.testing.assert_allclose(top.magnitude[2:], 0.25)
    np.testing.assert_allclose(images[0].magnitude, 0.25)  # per volume, not per slice
    assert top.pixel_size_mm == (2.0, 1.0)
    assert {image.subject for image in images} == {"v"}


def test_coronal_and_sagittal_have_superior_on_top(tmp_path, volume):
    path = save(tmp_path / "v.nii", volume)
    coronal = list(read_nifti(path, orientations=["coronal"]))
    sagittal = list(read_nifti(path, orientations=["sagittal"]))
    assert (len(coronal), len(sagittal)) == (10, 8)
    assert coronal[9].magnitude.shape == (12, 8)
    assert sagittal[0].magnitude.shape == (12, 10)
    np.testing.assert_allclose(coronal[9].magnitude[:2], 1)
    np.testing.assert_allclose(sagittal[0].magnitude[:2, 8:], 1)
    np.testing.assert_allclose(sagittal[0].magnitude[-1], 0)
    assert sagittal[0].pixel_size_mm == (3.0, 2.0)


def test_affine_decides_the_orientation(tmp_path, volume):
    volume[0] = 120
    plain = list(read_nifti(save(tmp_path / "a.nii", volume), orientations=["axial"]))
    flipped = list(read_nifti(save(tmp_path / "b.nii", volume, flip=True), orientations=["axial"]))
    np.testing.assert_array_equal(plain[3].magnitude, flipped[3].magnitude)


def test_step_and_skips(tmp_path, volume):
    counter = SkipCounter()
    images = list(
        read_nifti(
            save(tmp_path / "v.nii", volume), orientations=["axial"], step=3, skipped=counter
        )
    )
    assert [image.origin.split()[-1] for image in images] == ["3", "6", "9"]
    assert counter.counts == {"nearly empty slice": 1}


def test_each_volume_of_a_series_has_its_own_scale(tmp_path, volume):
    series = np.stack([volume, 2 * volume], axis=-1)
    images = list(read_nifti(save(tmp_path / "v.nii", series), orientations=["axial"]))
    assert len(images) == 22
    np.testing.assert_array_equal(images[5].magnitude, images[16].magnitude)


def test_what_is_no_nifti_is_refused(tmp_path):
    path = tmp_path / "v.nii.gz"
    path.write_text("text")
    with pytest.raises(InputError, match="not a readable NIfTI"):
        list(read_nifti(path))


def test_plane_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a 3-D or 4-D volume"):
        list(read_nifti(save(tmp_path / "v.nii", np.ones((4, 4), dtype=np.int16))))


def test_what_is_no_magnitude_is_refused_and_ringing_is_cut(tmp_path, volume):
    """Folded over, a brain of z-scores would look like one."""
    scores = (volume - 100.0) / 40
    with pytest.raises(InputError, match=r"samples from -2\.5 to 2\.5; expected magnitudes"):
        list(read_nifti(save(tmp_path / "z.nii", scores)))
    padded = np.where(volume == 0, np.int16(-32768), volume)
    with pytest.raises(InputError, match="samples from -32768 to 200"):
        list(read_nifti(save(tmp_path / "p.nii", padded)))
    ringing = np.where(volume == 50, np.int16(-20), volume)
    images = list(
        read_nifti(save(tmp_path / "r.nii", ringing), orientations=["axial"], minimum_filled=0)
    )
    assert [float(image.magnitude.min()) for image in images] == [0.0] * 12
    assert images[-1].magnitude.max() == 1


def test_colours_are_refused(tmp_path):
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match=r"v\.nii: found colours"):
        list(read_nifti(save(tmp_path / "v.nii", colours)))


def test_unknown_orientation_is_refused(tmp_path, volume):
    with pytest.raises(InputError, match="unknown orientation 'oblique'"):
        list(read_nifti(save(tmp_path / "v.nii", volume), orientations=["oblique"]))


@pytest.mark.parametrize(
    ("zooms", "shape", "expected"),
    [
        ((1, 1, 1), (180, 220, 180), ("axial", "coronal", "sagittal")),
        ((1, 1, 1.2), (180, 220, 160), ("axial", "coronal", "sagittal")),
        ((0.5, 0.5, 5), (512, 512, 24), ("axial",)),
        ((4, 0.9, 0.9), (20, 256, 256), ("sagittal",)),
        ((2, 2, 2), (128, 128, 10), ("axial",)),
        ((1, 2, 3), (8, 10, 12), ("sagittal",)),
    ],
)
def test_only_directions_with_square_pixels_are_cut(zooms, shape, expected):
    assert square_orientations(zooms, shape) == expected


def test_cut_off_file_is_refused(tmp_path, volume):
    path = save(tmp_path / "v.nii.gz", np.random.default_rng(0).normal(size=(40, 40, 40)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"v.nii.gz: not a readable NIfTI"):
        list(read_nifti(path))
