import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import InputError
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.readers.mrd import read_full_kspace, read_mrd
from tests.helpers import small_options

COILS, LINES, SAMPLES = 3, 8, 12

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">{patient}
 <experimentalConditions><H1resonanceFrequency_Hz>63000000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>12</x><y>8</y><z>{depth}</z></matrixSize>
   <fieldOfView_mm><x>{field}</x><y>16</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>{width}</x><y>8</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>12</x><y>16</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>7</maximum>
   <center>{centre}</center></kspace_encoding_step_1></encodingLimits>
  <trajectory>{trajectory}</trajectory>
 </encoding>
</ismrmrdHeader>"""


@pytest.fixture
def kspace():
    generator = np.random.default_rng(1)
    shape = (2, COILS, LINES, SAMPLES)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


@pytest.fixture
def make(tmp_path, kspace):
    def write(lines=range(LINES), flags=(), repeats=1, noise=None, group="dataset", **header):
        path = tmp_path / "scan.h5"
        path.unlink(missing_ok=True)
        values = {"depth": 1, "field": 12, "width": 12, "centre": 4, "trajectory": "cartesian"}
        dataset = ismrmrd.Dataset(str(path), group)
        dataset.write_xml_header(HEADER.format(**({"patient": ""} | values | header)).encode())
        if noise is not None:
            one = ismrmrd.Acquisition.from_array(noise.astype(np.complex64))
            one.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
            dataset.append_acquisition(one)
        for number in range(2):
            for repeat in range(repeats):
                for line in lines:
                    data = kspace[number, :, line] * (1 + repeat)
                    one = ismrmrd.Acquisition.from_array(np.ascontiguousarray(data))
                    one.idx.kspace_encode_step_1 = line
                    one.idx.slice = number
                    one.idx.average = repeat
                    one.center_sample = data.shape[1] // 2
                    for flag in flags:
                        one.set_flag(flag)
                    dataset.append_acquisition(one)
        dataset.close()
        return path

    return write


def test_full_scan_is_read_back(make, kspace):
    np.testing.assert_allclose(read_full_kspace(make()), kspace[0], rtol=1e-6)
    images = list(read_mrd(make()))
    assert [image.origin for image in images] == [
        f"scan.h5 slice {n} contrast 0 phase 0 repetition 0 set 0" for n in (0, 1)
    ]
    assert images[0].pixel_size_mm == (2.0, 1.0)
    assert (images[0].subject, images[0].private) == ("scan", False)


def test_magnitudes_are_those_of_the_centred_inverse_on_one_scale(make, kspace):
    images = list(read_mrd(make()))
    assert max(image.magnitude.max() for image in images) == 1
    # A direct sum over k-space, without any FFT, at two pixels of different slices.
    found, expected = [], []
    for number, (y, x) in enumerate([(5, 2), (3, 7)]):
        ky = np.exp(2j * np.pi * (np.arange(LINES) - LINES // 2) * (y - LINES // 2) / LINES)
        kx = np.exp(2j * np.pi * (np.arange(SAMPLES) - SAMPLES // 2) * (x - SAMPLES // 2) / SAMPLES)
        coils = np.einsum("cyx,y,x->c", kspace[number], ky, kx)
        expected.append(np.linalg.norm(coils))
        found.append(images[number].magnitude[y, x])
    assert found[0] / found[1] == pytest.approx(expected[0] / expected[1], rel=1e-4)


def test_averages_are_averaged(make, kspace):
    np.testing.assert_allclose(read_full_kspace(make(repeats=2)), kspace[0] * 1.5, rtol=1e-5)


def test_lines_are_placed_by_the_centre(make, kspace):
    np.testing.assert_allclose(read_full_kspace(make())[:, 4], kspace[0, :, 4], rtol=1e-6)
    with pytest.raises(InputError, match=r"scan.h5: .*falls in row 8"):
        read_full_kspace(make(centre=2))


def test_readout_oversampling_is_removed(make, kspace):
    whole = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(kspace[0], axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )
    found = read_full_kspace(make(field=24, width=6))
    assert found.shape == (COILS, LINES, 6)
    image = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(found, axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )
    np.testing.assert_allclose(image, whole[..., 3:9], rtol=1e-4, atol=1e-5)


def test_empty_outer_lines_make_a_smaller_matrix(make, kspace):
    found = read_full_kspace(make(lines=range(1, LINES)))
    np.testing.assert_allclose(found, kspace[0][:, 1:7], rtol=1e-6)


def test_noise_scan_whitens(tmp_path):
    path = tmp_path / "scan.h5"
    options = small_options(acceleration=1, snr=4.0)
    simulate_scan(path, options)
    images = list(read_mrd(path))
    assert len(images) == options.slices
    for image in images:
        assert image.magnitude.shape == (64, 64)
        assert image.kspace.dtype == np.complex64
        coils, ky, kx = image.kspace.shape
        assert coils <= 8
        assert (ky, kx) == (64, 64)
    # the corners of k-space are noise alone
    corners = np.concatenate([image.kspace[:, :8, :8].ravel() for image in images])
    assert np.mean(np.abs(corners) ** 2) == pytest.approx(1, rel=0.15)


def test_without_noise_scan_the_level_is_estimated(tmp_path):
    path = tmp_path / "scan.h5"
    simulate_scan(path, small_options(acceleration=1, snr=4.0, noise_scan=False))
    corners = next(read_mrd(path)).kspace[:, :8, :8]
    assert np.mean(np.abs(corners) ** 2) == pytest.approx(1, rel=0.4)


def test_virtual_coils_keep_the_image(tmp_path):
    path = tmp_path / "scan.h5"
    simulate_scan(path, small_options(acceleration=1, coils=12, snr=40.0))
    image = next(read_mrd(path))
    assert len(image.kspace) <= 8
    spectrum = np.fft.ifftshift(image.kspace, axes=(-2, -1))
    coils = np.fft.fftshift(np.fft.ifft2(spectrum, norm="ortho"), axes=(-2, -1))
    rss = np.linalg.norm(coils, axis=0)
    inside = image.magnitude > 0.2
    ratio = rss[inside] / image.magnitude[inside]
    assert ratio.std() / ratio.mean() < 0.02


def test_kspace_can_be_left_out(make):
    assert next(read_mrd(make(), kspace=False)).kspace is None


def test_patient_becomes_a_private_subject(make):
    patient = """<subjectInformation><patientName>Doe^Jane</patientName>
      <patientID>4711</patientID></subjectInformation>"""
    image = next(read_mrd(make(patient=patient)))
    assert (image.subject, image.private) == ("4711", True)
    assert "Doe" not in image.origin


def test_another_group_is_found(make, kspace):
    assert len(list(read_mrd(make(group="other")))) == 2


def test_undersampled_scan_is_refused(make):
    with pytest.raises(InputError, match="4 of 8 lines were measured"):
        list(read_mrd(make(lines=range(0, LINES, 2))))


def test_scan_without_image_data_is_refused(make):
    with pytest.raises(InputError, match="none with image data"):
        list(read_mrd(make(flags=[ismrmrd.ACQ_IS_PARALLEL_CALIBRATION])))


@pytest.mark.parametrize(
    ("header", "message"),
    [({"trajectory": "radial"}, "trajectory is 'radial'"), ({"depth": 4}, "a 3-D scan|step_2")],
)
def test_scan_of_another_kind_is_refused(make, header, message):
    with pytest.raises(InputError, match=message):
        list(read_mrd(make(**header)))


def test_asymmetric_echo_is_refused(tmp_path):
    path = tmp_path / "scan.h5"
    simulate_scan(path, small_options(acceleration=1, partial_echo=0.75))
    with pytest.raises(InputError, match="asymmetric echo"):
        list(read_mrd(path))


def test_missing_file_and_group_are_refused(tmp_path, make):
    with pytest.raises(InputError, match="no file"):
        list(read_mrd(tmp_path / "absent.h5"))
    with pytest.raises(InputError, match="no group 'other'"):
        list(read_mrd(make(), group="other"))
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="not HDF5"):
        list(read_mrd(tmp_path / "text.h5"))


def test_real_brain_is_fully_sampled(shared_data):
    kspace = read_full_kspace(shared_data / "espirit-full-brain-8ch" / "brain_full.h5")
    assert kspace.shape == (8, 180, 230)
    peak = np.unravel_index(np.abs(kspace).sum(axis=0).argmax(), (180, 230))
    assert np.abs(np.subtract(peak, (90, 115))).max() <= 1
