import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import InputError
from chpnet_training.readers.mrd import read_full_kspace, read_mrd, read_scan

COILS, LINES, SAMPLES = 3, 8, 12

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
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
    def write(lines=range(LINES), flags=(), repeats=1, **header):
        path = tmp_path / "scan.h5"
        values = {"depth": 1, "field": 12, "width": 12, "centre": 4, "trajectory": "cartesian"}
        dataset = ismrmrd.Dataset(str(path), "dataset")
        dataset.write_xml_header(HEADER.format(**(values | header)).encode())
        noise = ismrmrd.Acquisition.from_array(np.full((COILS, 64), 9e3, dtype=np.complex64))
        noise.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        dataset.append_acquisition(noise)
        for number in range(2):
            for repeat in range(repeats):
                for line in lines:
                    data = kspace[number, :, line] * (1 + repeat)
                    one = ismrmrd.Acquisition.from_array(np.ascontiguousarray(data))
                    one.idx.kspace_encode_step_1 = line
                    one.idx.slice = number
                    one.idx.average = repeat
                    for flag in flags:
                        one.set_flag(flag)
                    dataset.append_acquisition(one)
        dataset.close()
        return path

    return write


def test_full_scan_is_read_back(make, kspace):
    slices = list(read_scan(make()))
    assert [item.counters["slice"] for item in slices] == [0, 1]
    np.testing.assert_allclose(slices[1].kspace, kspace[1], rtol=1e-6)
    assert slices[0].pixel_size_mm == (2.0, 1.0)


def test_images_are_the_centred_unitary_inverse(make, kspace):
    item = next(read_scan(make()))
    # A direct sum over k-space, without any FFT.
    y, x = 5, 2
    ky = np.exp(2j * np.pi * (np.arange(LINES) - LINES // 2) * (y - LINES // 2) / LINES)
    kx = np.exp(2j * np.pi * (np.arange(SAMPLES) - SAMPLES // 2) * (x - SAMPLES // 2) / SAMPLES)
    expected = np.einsum("cyx,y,x->c", kspace[0], ky, kx) / np.sqrt(LINES * SAMPLES)
    np.testing.assert_allclose(item.images[:, y, x], expected, rtol=1e-5)


def test_averages_are_averaged(make, kspace):
    np.testing.assert_allclose(read_full_kspace(make(repeats=2)), kspace[0] * 1.5, rtol=1e-5)


def test_lines_are_placed_by_the_centre(make, kspace):
    path = make(lines=range(LINES), centre=4)
    np.testing.assert_allclose(read_full_kspace(path)[:, 4], kspace[0, :, 4], rtol=1e-6)
    with pytest.raises(InputError, match="a row below 8"):
        read_full_kspace(make(centre=3))


def test_readout_oversampling_is_removed(make, kspace):
    item = next(read_scan(make(field=24, width=6)))
    whole = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(kspace[0], axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )
    assert item.kspace.shape == (COILS, LINES, 6)
    np.testing.assert_allclose(item.images, whole[..., 3:9], rtol=1e-4, atol=1e-5)


def test_magnitudes_share_one_scale(make, kspace):
    images = list(read_mrd(make()))
    assert max(image.magnitude.max() for image in images) == 1
    energy = [float(np.sum(image.magnitude**2)) for image in images]
    expected = np.sum(np.abs(kspace) ** 2, axis=(1, 2, 3))
    assert energy[0] / energy[1] == pytest.approx(expected[0] / expected[1], rel=1e-4)


def test_undersampled_scan_is_refused(make):
    with pytest.raises(InputError, match="4 of 8 lines were measured"):
        list(read_scan(make(lines=range(0, LINES, 2))))


def test_scan_without_image_data_is_refused(make):
    with pytest.raises(InputError, match="none with image data"):
        list(read_scan(make(flags=[ismrmrd.ACQ_IS_PARALLEL_CALIBRATION])))


@pytest.mark.parametrize(
    ("header", "message"),
    [({"trajectory": "radial"}, "trajectory radial"), ({"depth": 4}, "a 3-D scan")],
)
def test_scan_of_another_kind_is_refused(make, header, message):
    with pytest.raises(InputError, match=message):
        list(read_scan(make(**header)))


def test_missing_file_and_group_are_refused(tmp_path, make):
    with pytest.raises(InputError, match="no such file"):
        list(read_scan(tmp_path / "absent.h5"))
    with pytest.raises(InputError, match="group 'other'"):
        list(read_scan(make(), group="other"))
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="no readable ISMRMRD scan"):
        list(read_scan(tmp_path / "text.h5"))


def test_real_brain_is_fully_sampled(shared_data):
    kspace = read_full_kspace(shared_data / "espirit-full-brain-8ch" / "brain_full.h5")
    assert kspace.shape == (8, 180, 230)
    peak = np.unravel_index(np.abs(kspace).sum(axis=0).argmax(), (180, 230))
    assert np.abs(np.subtract(peak, (90, 115))).max() <= 1
