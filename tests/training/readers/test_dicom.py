import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from chpnet_stream.errors import InputError
from chpnet_training.readers import SkipCounter
from chpnet_training.readers.dicom import read_dicom
from tests.training.readers.dicom_files import NAME, write_dicom

PIXELS = np.arange(48, dtype=np.uint16).reshape(6, 8) * 100


def test_series_shares_one_scale_and_is_in_order(tmp_path):
    second = write_dicom(tmp_path / "a", 2 * PIXELS, InstanceNumber=2)
    first = write_dicom(tmp_path / "b", PIXELS, InstanceNumber=1)
    images = list(read_dicom([second, first]))
    np.testing.assert_allclose(images[0].magnitude, PIXELS / 9400, rtol=1e-6)
    np.testing.assert_allclose(images[1].magnitude, 2 * PIXELS / 9400, rtol=1e-6)
    assert [image.origin for image in images] == ["series 0 slice 0", "series 0 slice 1"]
    assert images[0].pixel_size_mm == (1.5, 0.75)


def test_series_are_apart_and_a_patient_is_one_subject(tmp_path):
    files = [
        write_dicom(tmp_path / "a", PIXELS),
        write_dicom(tmp_path / "b", 3 * PIXELS, SeriesInstanceUID=generate_uid()),
        write_dicom(tmp_path / "c", PIXELS, SeriesInstanceUID=generate_uid(), PatientID="PID-2"),
    ]
    images = list(read_dicom(files))
    assert [image.magnitude.max() for image in images] == [1, 1, 1]
    assert images[0].subject == images[1].subject != images[2].subject
    assert images[0].subject == "PID-4711-SECRET"  # as the readers of raw data have it
    assert all(image.private for image in images)
    assert all(NAME not in image.origin + image.subject for image in images)


def test_without_a_patient_the_study_is_the_subject(tmp_path):
    files = [
        write_dicom(tmp_path / "a", PIXELS, PatientID=""),
        write_dicom(
            tmp_path / "b", PIXELS, PatientID=None, StudyInstanceUID=generate_uid(),
            SeriesInstanceUID=generate_uid(),
        ),
    ]  # fmt: skip
    one, other = read_dicom(files)
    assert one.subject != other.subject


def test_rescale_slope_and_intercept(tmp_path):
    files = [
        write_dicom(tmp_path / "a", PIXELS, RescaleSlope=2, RescaleIntercept=-1000),
        write_dicom(tmp_path / "b", PIXELS, InstanceNumber=2),
    ]
    first, second = read_dicom(files)
    expected = np.maximum(2.0 * PIXELS - 1000, 0)
    np.testing.assert_allclose(first.magnitude, expected / expected.max(), rtol=1e-6)
    np.testing.assert_allclose(second.magnitude, PIXELS / expected.max(), rtol=1e-6)


def test_monochrome1_is_turned_over(tmp_path):
    path = write_dicom(
        tmp_path / "a", PIXELS.max() - PIXELS, PhotometricInterpretation="MONOCHROME1"
    )
    (image,) = read_dicom([path])
    np.testing.assert_allclose(image.magnitude, PIXELS / PIXELS.max(), rtol=1e-6)


def test_frames_have_their_own_slope(tmp_path):
    def group(slope):
        values, group = Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = slope, 0
        group.PixelValueTransformationSequence = [values]
        return group

    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [2.0, 3.0]
    shared.PixelMeasuresSequence = [measures]
    path = write_dicom(
        tmp_path / "a", np.stack([PIXELS, PIXELS]), PixelSpacing=None,
        PerFrameFunctionalGroupsSequence=[group(1), group(4)],
        SharedFunctionalGroupsSequence=[shared],
    )  # fmt: skip
    first, second = read_dicom([path])
    np.testing.assert_allclose(4 * first.magnitude, second.magnitude, rtol=1e-6)
    assert second.pixel_size_mm == (2.0, 3.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MPR"]}, "derived"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
        ({"SeriesDescription": "3-plane loc"}, "localiser"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "no magnitude"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"BurnedInAnnotation": "YES"}, "burned-in annotation"),
        ({"Rows": None}, "no image in it"),
    ],
)
def test_what_is_no_training_image_is_counted(tmp_path, changes, reason):
    counter = SkipCounter()
    good = write_dicom(tmp_path / "good", PIXELS)
    bad = write_dicom(tmp_path / "bad", PIXELS, **changes)
    assert len(list(read_dicom([bad, good], skipped=counter))) == 1
    assert counter.counts == {reason: 1}


def signed(tmp_path, pixels, **changes):
    tmp_path.mkdir(exist_ok=True)
    return write_dicom(tmp_path / "signed", pixels, PixelRepresentation=1, **changes)


def test_a_series_with_samples_far_below_zero_is_no_magnitude(tmp_path):
    """Phases and real parts, of which some scanners tell in private elements only."""
    counter = SkipCounter()
    middle = int(PIXELS.max()) // 2
    path = signed(tmp_path, PIXELS.astype(np.int16) - middle)
    good = write_dicom(tmp_path / "good", PIXELS, SeriesInstanceUID="1.2.3")
    (image,) = read_dicom([path, good], skipped=counter)
    np.testing.assert_allclose(image.magnitude, PIXELS / PIXELS.max(), rtol=1e-6)
    assert counter.counts == {"no magnitude": 1}


@pytest.mark.parametrize("unknown", [False, True])
def test_parts_of_complex_images_by_ge_are_told_from_magnitudes(tmp_path, unknown):
    """They share a series, and only a private element tells them apart."""
    counter, files = SkipCounter(), []
    for kind in range(4):  # magnitude, phase, real, imaginary
        path = signed(tmp_path / str(kind), PIXELS, InstanceNumber=kind)
        data = pydicom.dcmread(path)
        block = data.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x2F, *(("UN", bytes([kind, 0])) if unknown else ("SS", kind)))
        data.save_as(path)
        files.append(path)
    assert len(list(read_dicom(files, skipped=counter))) == 1
    assert counter.counts == {"no magnitude": 3}


def test_what_a_scanner_fills_up_is_dark(tmp_path):
    pixels = PIXELS.astype(np.int16)
    pixels[:2] = -2000
    (image,) = read_dicom([signed(tmp_path, pixels, PixelPaddingValue=-2000)])
    assert not image.magnitude[:2].any()
    np.testing.assert_allclose(image.magnitude[2:], PIXELS[2:] / PIXELS[2:].max(), rtol=1e-6)


def test_step_and_ticks(tmp_path):
    files = [write_dicom(tmp_path / f"{n}", PIXELS, InstanceNumber=n) for n in range(1, 6)]
    ticks = []
    images = list(read_dicom(files, step=2, tick=ticks.append))
    assert len(images) == 3
    assert ticks == files[::2]


def test_step_is_that_of_frames_where_a_file_has_many(tmp_path):
    planes = np.stack([PIXELS + number for number in range(5)])
    files = [write_dicom(tmp_path / f"{n}", planes + n, InstanceNumber=n) for n in (0, 10)]
    images = list(read_dicom(files, step=2))
    highest = PIXELS.max() + 14
    found = [round(float(image.magnitude.max()) * highest) for image in images]
    assert found == [PIXELS.max() + n for n in (0, 2, 4, 10, 12, 14)]


def test_damaged_files_are_refused_or_told(tmp_path):
    good = write_dicom(tmp_path / "good", PIXELS)
    cut = write_dicom(tmp_path / "cut", PIXELS)
    cut.write_bytes(cut.read_bytes()[:-40])
    text = tmp_path / "text.dcm"
    text.write_bytes(b"no DICOM at all")
    with pytest.raises(InputError, match="cut: not a readable DICOM image"):
        list(read_dicom([cut]))
    told = []
    images = list(
        read_dicom([cut, text, good], unreadable=lambda error, path: told.append(path.name))
    )
    assert len(images) == 1
    assert set(told) <= {"cut", "text.dcm"}
    assert "cut" in told
