import pickle

import pytest

from chpnet_stream.errors import HeaderError, UnsupportedScanError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import Limit, ScanHeader
from tests.scan.building import header_xml


def read(**options):
    return ScanHeader.from_xml(header_xml(**options))


def test_geometry_limits_and_sequence():
    header = read(nx=32, ny=16, oversampling=2, acceleration=(3, 1), mode="embedded")
    (encoding,) = header.encodings
    assert encoding.encoded.matrix == (64, 16, 1)
    assert encoding.encoded.field_of_view_mm == (64.0, 16.0, 5.0)
    assert encoding.recon.matrix == (32, 16, 1)
    assert encoding.limit("kspace_encoding_step_1") == Limit(0, 15, 8)
    assert encoding.limit("slice") == Limit(0, 0, 0)
    assert encoding.acceleration == (3, 1)
    assert encoding.calibration_mode == "embedded"
    assert [encoding.cropped(axis) for axis in range(3)] == [32, 16, 1]
    assert header.te_ms == (2.5, 5.0)
    assert header.patient_position == "HFS"
    assert header.protocol == "test"
    assert header.h1_frequency_hz == 63_500_000
    assert header.noise_bandwidth == 0.793
    assert header.problems() == []
    assert header.notes == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trajectory": "radial"}, "trajectory is 'radial'"),
        ({"trajectory": "epi"}, "trajectory is 'epi'"),
        ({"ny": 0}, "matrix is 64 x 0 x 1"),
        ({"nz": 4, "acceleration": (1, 2)}, "acceleration 2 along kspace_encoding_step_2"),
        ({"limits": {"kspace_encoding_step_1": (9, 3, 0)}}, "runs from 9 to 3"),
    ],
)
def test_what_cannot_be_reconstructed_is_refused_with_the_reason(options, says):
    header = read(**options)
    with pytest.raises(UnsupportedScanError, match=says) as caught:
        header.check()
    assert "\n" not in str(caught.value)


def test_missing_limits_are_refused():
    xml = header_xml()
    start, stop = xml.index("<encodingLimits>"), xml.index("</encodingLimits>")
    header = ScanHeader.from_xml(xml[:start] + "<encodingLimits>" + xml[stop:])
    with pytest.raises(UnsupportedScanError, match="encodingLimits has no kspace_encoding_step_1"):
        header.check()


def test_one_possible_encoding_is_enough_for_the_header():
    xml = header_xml(encodings=2)
    radial = xml.replace("<trajectory>cartesian", "<trajectory>radial", 1)
    assert ScanHeader.from_xml(radial).problems() == []
    both = xml.replace("<trajectory>cartesian", "<trajectory>radial")
    assert len(ScanHeader.from_xml(both).problems()) == 2


def test_older_headers_are_read_and_what_was_tolerated_is_noted():
    xml = (
        header_xml()
        .replace("<patientPosition>HFS</patientPosition>", "<patientBodyMass>1</patientBodyMass>")
        .replace("<trajectory>cartesian", "<trajectory>Cartesian")
    )
    header = ScanHeader.from_xml(xml)
    assert header.encodings[0].trajectory == "cartesian"
    assert header.patient_position is None
    assert any("'Cartesian'" in note for note in header.notes)
    assert any("patientPosition" in note for note in header.notes)
    mended = header.ismrmrd
    assert mended.encoding[0].trajectory.value == "cartesian"
    assert mended.measurementInformation.patientPosition.value == "HFS"


def test_a_valid_header_goes_to_the_package_unchanged():
    header = read()
    assert header.ismrmrd.encoding[0].encodedSpace.matrixSize.x == 64
    assert pickle.loads(pickle.dumps(header)).encodings == header.encodings  # noqa: S301


@pytest.mark.parametrize(
    "name",
    ["receiverChannels", "systemFieldStrength_T", "relativeReceiverNoiseBandwidth"],
)
def test_numbers_that_no_image_needs_may_be_none(name):
    """NaN is what XSLT makes of a value that is not there."""
    system = f"<acquisitionSystemInformation><{name}>NaN</{name}></acquisitionSystemInformation>"
    xml = header_xml().replace("<experimentalConditions>", f"{system}<experimentalConditions>")
    header = ScanHeader.from_xml(xml.replace(">63500000<", ">unknown<"))
    assert header.problems() == []
    assert (header.receiver_channels, header.field_strength_t) == (None, None)
    assert header.noise_bandwidth == 0.793
    assert header.h1_frequency_hz is None
    assert set(header.notes) == {
        f"{name} is no number: left out",
        "H1resonanceFrequency_Hz is no number: left out",
    }


def test_missing_centre_is_taken_as_the_middle_and_noted():
    xml = header_xml(ny=16).replace("<center>8</center>", "")
    header = ScanHeader.from_xml(xml)
    assert header.encodings[0].limit("kspace_encoding_step_1").center == 8
    assert any("states no center" in note for note in header.notes)


def test_one_partition_of_several_is_a_2d_scan():
    """Pulseq scans of Siemens scanners have two partitions in the matrix, and measure one."""
    xml = header_xml(ny=16).replace("<z>1</z></matrixSize>", "<z>2</z></matrixSize>")
    header = ScanHeader.from_xml(xml)
    (encoding,) = header.encodings
    assert encoding.encoded.matrix == (64, 16, 1)
    assert encoding.recon.matrix == (32, 16, 1)
    assert encoding.recon.field_of_view_mm == (32.0, 16.0, 5.0)
    assert encoding.is_flattened
    assert not encoding.is_3d
    assert header.notes == (
        "encoding 0: encodedSpace has 2 partitions, encodingLimits one: taken as 2-D",
    )
    assert not read(nz=2).encodings[0].is_flattened


@pytest.mark.parametrize(
    ("ny", "maximum", "centre"),
    [(16, 15, 8), (16, 8, 4), (16, 7, 0), (17, 16, 8), (17, 9, 5), (17, 8, 0), (16, 16, 0)],
)
def test_a_centre_of_0_is_believed_where_the_lines_fit_behind_it(ny, maximum, centre):
    header = read(ny=ny, limits={"kspace_encoding_step_1": (0, maximum, 0)})
    assert header.encodings[0].limit("kspace_encoding_step_1") == Limit(0, maximum, centre)
    assert any("states center 0" in note for note in header.notes) == (centre > 0)


def test_partitions_whose_centre_was_never_filled_in():
    header = read(nz=64, limits={"kspace_encoding_step_2": (0, 63, 0)})
    assert header.encodings[0].limit("kspace_encoding_step_2") == Limit(0, 63, 32)


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("", "empty"),
        ("not xml", "not well-formed"),
        ("<a/>", "root is <a>"),
        ("<ismrmrdHeader/>", "no <encoding>"),
        ("<ismrmrdHeader><encoding/></ismrmrdHeader>", "no <encodedSpace>"),
        (header_xml().replace("<x>64</x>", "<x>many</x>"), "x = 'many'"),
        (header_xml().replace("<x>64</x>", f"<x>{'9' * 400}</x>"), "x = '999.*expected a number"),
        (header_xml().replace("<x>64</x>", "<x>nan</x>"), "x = 'nan', expected a number"),
        (header_xml().replace("<z>5</z>", "<z>inf</z>"), "z = 'inf', expected a number"),
    ],
)
def test_broken_headers(xml, says):
    with pytest.raises(HeaderError, match=says):
        ScanHeader.from_xml(xml)


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE lolz [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
    ],
)
def test_document_types_are_refused(doctype):
    with pytest.raises(HeaderError, match="document type"):
        ScanHeader.from_xml(f"{doctype}<ismrmrdHeader>&b;</ismrmrdHeader>")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_document_types_are_refused_in_any_encoding(encoding):
    text = '<!DOCTYPE a [<!ENTITY b "c">]><ismrmrdHeader>&b;</ismrmrdHeader>'
    head = f'<?xml version="1.0" encoding="{encoding[:6]}"?>'
    with pytest.raises(HeaderError, match="document type"):
        ScanHeader.from_xml((head + text).encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-32", "utf-7", "klingon"])
def test_encodings_that_nobody_reads_are_told(encoding):
    xml = header_xml().replace(
        '<?xml version="1.0"?>', f'<?xml version="1.0" encoding="{encoding}"?>'
    )
    with pytest.raises(HeaderError, match=r"can't be read|not well-formed"):
        ScanHeader.from_xml(xml)


def test_a_matrix_that_no_memory_holds_is_refused():
    header = ScanHeader.from_xml(header_xml(nx=100_000, ny=100_000))
    with pytest.raises(UnsupportedScanError, match="encodedSpace matrix is 200000 x 100000 x 1"):
        header.check()


def test_scanner_header(shared_data):
    path = shared_data / "gadgetron-phantom-14ch-R3" / "meas_MID00349_FID09273_SNR_R3.h5"
    with ScanFile(path) as scan:
        header = scan.header
    (encoding,) = header.encodings
    assert encoding.cropped(0) == 192
    assert encoding.limit("kspace_encoding_step_1") == Limit(0, 105, 54)
    assert header.receiver_channels == 14
    assert header.coil_names[0] == (22, "Body_18:1:B22")
    assert header.user_parameters["EmbeddedRefLinesE1"] == 48
    assert header.ti_ms == (300.0,)
    assert header.field_strength_t == pytest.approx(2.89362)


def test_values_of_the_patient_are_in_no_warning(recwarn):
    """The package quotes what it can't convert: a birth date as DICOM writes it."""
    subject = (
        "<subjectInformation><patientBirthdate>19570319</patientBirthdate></subjectInformation>"
    )
    xml = header_xml().replace("<measurementInformation>", f"{subject}<measurementInformation>")
    assert ScanHeader.from_xml(xml).ismrmrd.subjectInformation.patientBirthdate
    assert [str(w.message) for w in recwarn] == []
