import h5py
import numpy as np
import pytest

from chpnet_stream.errors import InputError
from chpnet_training.readers import SkipCounter
from chpnet_training.readers.fastmri import read_fastmri, read_fastmri_kspace

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <experimentalConditions><H1resonanceFrequency_Hz>63000000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>12</x><y>10</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>24</x><y>30</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>6</x><y>5</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>12</x><y>15</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits/>
  <trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>"""


@pytest.fixture
def make(tmp_path):
    def write(**datasets):
        path = tmp_path / "file1.h5"
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            file.attrs["patient_id"] = "p7"
            for name, value in datasets.items():
                file[name] = value
        return path

    return write


@pytest.mark.parametrize("name", ["reconstruction_esc", "reconstruction_rss"])
def test_reconstruction_is_scaled_per_volume(make, name):
    data = np.stack([np.full((6, 5), 1.0), np.full((6, 5), 4.0)]).astype(np.float32)
    images = list(read_fastmri(make(**{name: data, "ismrmrd_header": HEADER})))
    np.testing.assert_allclose([image.magnitude[0, 0] for image in images], [0.25, 1])
    assert {image.subject for image in images} == {"p7"}
    assert images[1].origin == f"file1.h5 {name} 1"
    assert images[0].pixel_size_mm == (2.0, 3.0)


@pytest.mark.parametrize(
    ("written", "subject", "private"), [(b" p7 ", "p7", True), ("", "file1", False)]
)
def test_the_patient_is_the_identifier_alone_or_the_file(make, written, subject, private):
    path = make(reconstruction_rss=np.ones((1, 6, 5)))
    with h5py.File(path, "a") as file:
        file.attrs["patient_id"] = written
    (image,) = read_fastmri(path)
    assert (image.subject, image.private) == (subject, private)


def test_pixel_size_is_unknown_without_header(make):
    (image,) = read_fastmri(make(reconstruction_rss=np.ones((1, 6, 5))))
    assert image.pixel_size_mm is None


def test_kspace_has_lines_before_readout(make):
    stored = np.random.default_rng(0).normal(size=(2, 3, 12, 10)).astype(np.complex64)
    slices = list(read_fastmri_kspace(make(kspace=stored)))
    assert slices[1].shape == (3, 10, 12)
    assert slices[1][2, 4, 7] == stored[1, 2, 7, 4]


def test_single_coil_kspace_gets_a_coil_axis(make):
    (one,) = read_fastmri_kspace(make(kspace=np.ones((1, 12, 10), dtype=np.complex64)))
    assert one.shape == (1, 10, 12)


def test_missing_reconstruction_is_refused(make):
    with pytest.raises(InputError, match=r"found \['kspace'\]"):
        list(read_fastmri(make(kspace=np.ones((1, 4, 4)))))


def test_damaged_header_is_refused(make):
    path = make(reconstruction_rss=np.ones((1, 6, 5)), ismrmrd_header="<broken")
    with pytest.raises(InputError, match="no ISMRMRD header"):
        list(read_fastmri(path))


def test_what_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "a.h5").write_text("text")
    with pytest.raises(InputError, match="not a readable HDF5"):
        list(read_fastmri(tmp_path / "a.h5"))
    with pytest.raises(InputError, match="not a readable HDF5"):
        list(read_fastmri_kspace(tmp_path / "a.h5"))


def test_multi_coil_kspace_comes_along(make):
    """Readout 12 (oversampled, kept 6), 10 lines of which the outer two are zeros, 3 coils."""
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(2, 3, 12, 10, 2)) @ np.array([0.5**0.5, 0.5**0.5 * 1j])
    stored[..., 5, 5] += 1000  # signal at the centre of k-space
    stored[..., [0, 9]] = 0
    reconstruction = np.ones((2, 6, 5), dtype=np.float32)
    values = {"reconstruction_rss": reconstruction, "ismrmrd_header": HEADER}
    images = list(read_fastmri(make(kspace=stored.astype(np.complex64), **values)))
    for image in images:
        assert image.kspace.dtype == np.complex64
        assert image.kspace.shape[1:] == (8, 6)
        assert len(image.kspace) <= 3
    whole = [np.linalg.norm(image.kspace) for image in images]
    assert whole[0] / whole[1] == pytest.approx(1, rel=0.1)
    (one,) = read_fastmri(make(kspace=stored[:1], reconstruction_rss=reconstruction[:1]))
    assert one.kspace.shape[1:] == (8, 12)  # without a header nothing is cropped
    (plain,) = read_fastmri(
        make(kspace=stored[:1], reconstruction_rss=reconstruction[:1]), kspace=False
    )
    assert plain.kspace is None


def test_kspace_is_in_units_of_the_noise(make):
    rng = np.random.default_rng(0)
    stored = 7e-5 * rng.normal(size=(1, 4, 64, 60, 2)) @ np.array([1, 1j])
    stored[:, :, 30:34, 28:32] += 1
    one = next(
        read_fastmri(make(kspace=stored, reconstruction_rss=np.ones((1, 6, 5), dtype=np.float32)))
    )
    assert np.mean(np.abs(one.kspace[:, :20]) ** 2) == pytest.approx(1, rel=0.3)


def test_partial_fourier_keeps_the_magnitude_only(make):
    stored = np.ones((1, 3, 12, 10), dtype=np.complex64)
    stored[..., :3] = 0
    counter = SkipCounter()
    path = make(kspace=stored, reconstruction_rss=np.ones((1, 6, 5), dtype=np.float32))
    (one,) = read_fastmri(path, skipped=counter)
    assert one.kspace is None
    assert counter.counts == {"k-space that is not complete": 1}


@pytest.mark.parametrize("names", [("esc",), ("esc", "rss")])
def test_single_coil_files_give_magnitudes(make, names):
    """The published ones hold both reconstructions."""
    stored = np.ones((1, 12, 10), dtype=np.complex64)
    images = {f"reconstruction_{name}": np.ones((1, 6, 5), dtype=np.float32) for name in names}
    (one,) = read_fastmri(make(kspace=stored, **images))
    assert one.kspace is None
    assert one.private


def test_kspace_that_is_not_finite_is_refused(make):
    stored = np.full((1, 3, 12, 10), np.nan, dtype=np.complex64)
    with pytest.raises(InputError, match="k-space of slice 0 is not finite"):
        list(
            read_fastmri(
                make(kspace=stored, reconstruction_rss=np.ones((1, 6, 5), dtype=np.float32))
            )
        )


def test_cut_off_file_is_refused(make):
    path = make(reconstruction_rss=np.random.default_rng(0).normal(size=(9, 64, 64)))
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(InputError, match=r"file1\.h5: not a readable HDF5"):
        list(read_fastmri(path))
