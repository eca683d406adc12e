"""The header between v1 and v2: every field, there and back."""

import dataclasses
import datetime
import enum
from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.errors import HeaderError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.v2.header import (
    header_to_v2,
    header_to_xml,
    inner_type,
    plain,
    v1_fields,
    v2_fields,
)

mrd = pytest.importorskip("mrd", reason="no mrd-python (pip install 'chpnet-stream[mrd2]')")
xsd = pytest.importorskip("ismrmrd").xsd

EVERYTHING = b"""<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<version>15</version>
<subjectInformation><patientName>no one</patientName><patientWeight_kg>70.1</patientWeight_kg>
<patientHeight_m>1.7</patientHeight_m><patientID>p0</patientID>
<patientBirthdate>1970-01-02</patientBirthdate><patientGender>O</patientGender></subjectInformation>
<studyInformation><studyDate>2020-02-03</studyDate><studyTime>12:13:14.150000001</studyTime>
<studyID>7</studyID><accessionNumber>8</accessionNumber>
<referringPhysicianName>nobody</referringPhysicianName><studyDescription>d</studyDescription>
<studyInstanceUID>1.2</studyInstanceUID><bodyPartExamined>HEAD</bodyPartExamined></studyInformation>
<measurementInformation><measurementID>m1</measurementID><seriesDate>2020-02-04</seriesDate>
<seriesTime>00:00:01</seriesTime><patientPosition>FFDL</patientPosition>
<relativeTablePosition><x>1.1</x><y>-2</y><z>3</z></relativeTablePosition>
<initialSeriesNumber>3</initialSeriesNumber><protocolName>p \xc3\xa4</protocolName>
<sequenceName>s</sequenceName><seriesDescription>sd</seriesDescription>
<measurementDependency><dependencyType>Noise</dependencyType><measurementID>n</measurementID>
</measurementDependency><seriesInstanceUIDRoot>1.3</seriesInstanceUIDRoot>
<frameOfReferenceUID>1.4</frameOfReferenceUID><referencedImageSequence>
<referencedSOPInstanceUID>1.5</referencedSOPInstanceUID></referencedImageSequence>
</measurementInformation>
<acquisitionSystemInformation><systemVendor>v</systemVendor><systemModel>m</systemModel>
<systemFieldStrength_T>2.89362</systemFieldStrength_T>
<relativeReceiverNoiseBandwidth>0.793</relativeReceiverNoiseBandwidth>
<receiverChannels>2</receiverChannels><coilLabel><coilNumber>0</coilNumber><coilName>a</coilName>
</coilLabel><coilLabel><coilNumber>5</coilNumber><coilName>b</coilName></coilLabel>
<institutionName>i</institutionName><stationName>st</stationName><deviceID>d1</deviceID>
<deviceSerialNumber>d2</deviceSerialNumber></acquisitionSystemInformation>
<experimentalConditions><H1resonanceFrequency_Hz>123249000</H1resonanceFrequency_Hz>
</experimentalConditions>
<encoding><encodedSpace><matrixSize><x>64</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>300.3</x><y>150.1</y><z>5.5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>32</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>150.15</x><y>150.1</y><z>5.5</z></fieldOfView_mm></reconSpace>
<encodingLimits>LIMITS</encodingLimits><trajectory>cartesian</trajectory>
<trajectoryDescription><identifier>t</identifier>
<userParameterLong><name>l</name><value>-1</value></userParameterLong>
<userParameterDouble><name>d</name><value>0.1</value></userParameterDouble>
<userParameterString><name>s</name><value>x</value></userParameterString><comment>c</comment>
</trajectoryDescription>
<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>
<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>
<calibrationMode>embedded</calibrationMode><interleavingDimension>phase</interleavingDimension>
<multiband><spacing><dZ>1.5</dZ><dZ>2.5</dZ></spacing><deltaKz>0.2</deltaKz>
<multiband_factor>1</multiband_factor><calibration>separable2D</calibration>
<calibration_encoding>0</calibration_encoding></multiband></parallelImaging>
<echoTrainLength>4</echoTrainLength></encoding>
<sequenceParameters><TR>5.1</TR><TE>2.2</TE><TE>4.4</TE><TI>100</TI>
<flipAngle_deg>15</flipAngle_deg><sequence_type>flash</sequence_type>
<echo_spacing>0.5</echo_spacing><diffusionDimension>user_3</diffusionDimension>
<diffusion><gradientDirection><rl>1</rl><ap>0</ap><fh>0.5</fh></gradientDirection>
<bvalue>1000</bvalue></diffusion><diffusionScheme>ds</diffusionScheme></sequenceParameters>
<userParameters><userParameterLong><name>l</name><value>9007199254740993</value>
</userParameterLong><userParameterDouble><name>d</name><value>0.1234567890123</value>
</userParameterDouble><userParameterString><name>s</name><value>y</value></userParameterString>
<userParameterBase64><name>b</name><value>AAECAw==</value></userParameterBase64></userParameters>
<waveformInformation><waveformName>w</waveformName><waveformType>respiratory</waveformType>
<userParameters><userParameterLong><name>l</name><value>2</value></userParameterLong>
</userParameters></waveformInformation>
</ismrmrdHeader>"""
STEPS = ("kspace_encoding_step_0", "kspace_encoding_step_1", "kspace_encoding_step_2")
COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set", "segment")
LIMITS = "".join(
    f"<{name}><minimum>{i}</minimum><maximum>{i + 30}</maximum><center>{i + 15}</center></{name}>"
    for i, name in enumerate([*STEPS, *COUNTERS, *(f"user_{n}" for n in range(8))])
)


@pytest.fixture
def everything() -> ScanHeader:
    return ScanHeader.from_xml(EVERYTHING.replace(b"LIMITS", LIMITS.encode()))


def empty_fields(value: Any, where: str = "") -> list[str]:
    """Fields that say nothing, at any depth."""
    found = []
    for name in v2_fields(type(value)) if not isinstance(value, enum.Enum) else ():
        inner = getattr(value, v2_fields(type(value))[name][0])
        path = f"{where}.{name}"
        if inner is None or inner == []:
            found.append(path)
        for part in inner if isinstance(inner, list) else [inner]:
            if type(part).__module__.startswith("mrd.types"):
                found += empty_fields(part, path)
    return found


def test_every_element_arrives_in_v2(everything: ScanHeader) -> None:
    header = header_to_v2(everything)
    missing = empty_fields(header)
    assert [path for path in missing if ".waveforminformation.userparameters" not in path] == []
    assert header.subject_information.patient_gender == mrd.PatientGender.O
    assert header.subject_information.patient_birthdate == datetime.date(1970, 1, 2)
    assert str(header.study_information.study_time) == "12:13:14.150000001"
    assert header.measurement_information.patient_position == mrd.PatientPosition.F_FDL
    assert header.measurement_information.measurement_dependency[0].measurement_id == "n"
    encoding = header.encoding[0]
    assert encoding.encoding_limits.user_7.center == 17 + 15
    assert encoding.parallel_imaging.multiband.calibration == mrd.Calibration.SEPARABLE_2D
    assert header.sequence_parameters.diffusion_dimension == mrd.DiffusionDimension.USER_3
    assert header.waveform_information[0].waveform_type == mrd.WaveformType.RESPIRATORY


def test_there_and_back_and_through_a_file(everything: ScanHeader, tmp_path: Path) -> None:
    """As v1 has it, the header is the same as before; also behind float32 on disk."""
    path = tmp_path / "header.mrd"
    with mrd.BinaryMrdWriter(str(path)) as writer:
        writer.write_header(header_to_v2(everything))
        writer.write_data([])
    with mrd.BinaryMrdReader(str(path)) as reader:
        read = reader.read_header()
        assert list(reader.read_data()) == []
    back = ScanHeader.from_xml(header_to_xml(read))
    assert back.ismrmrd == everything.ismrmrd
    same = {f.name for f in dataclasses.fields(ScanHeader)} - {"xml", "notes"}
    assert {n for n in same if getattr(back, n) != getattr(everything, n)} == set()


def test_the_two_schemas_have_the_same_elements() -> None:
    """A new version of either package can't drop a field in silence."""

    def compare(v1: Any, v2: Any, where: str) -> list[str]:
        ours, theirs = v1_fields(v1), v2_fields(v2)
        found = [f"{where}.{name}" for name in ours.keys() ^ theirs.keys()]
        for name in ours.keys() & theirs.keys():
            (one, many), (other, listed) = (inner_type(side[name][1]) for side in (ours, theirs))
            found += [f"{where}.{name} (list)"] if many != listed else []
            if dataclasses.is_dataclass(one):
                found += compare(one, other, f"{where}.{name}")
            elif isinstance(one, type) and issubclass(one, enum.Enum):
                words = {plain(str(m.value)) for m in one} ^ {plain(m.name) for m in other}
                found += [f"{where}.{name}={word}" for word in words]
        return found

    assert compare(xsd.ismrmrdHeader, mrd.Header, "") == [
        ".encoding.parallelimaging.calibrationmode=noacceleration"
    ]


def test_a_mode_that_v1_has_no_word_for_is_left_out(everything: ScanHeader) -> None:
    header = header_to_v2(everything)
    header.encoding[0].parallel_imaging.calibration_mode = mrd.CalibrationMode.NOACCELERATION
    assert ScanHeader.from_xml(header_to_xml(header)).encodings[0].calibration_mode is None


def test_time_zones_are_told(everything: ScanHeader, caplog: pytest.LogCaptureFixture) -> None:
    zoned = everything.xml.replace(b">00:00:01<", b">00:00:01+01:00<")
    header_to_v2(ScanHeader.from_xml(zoned))
    assert "time zone" in caplog.text


def test_a_header_that_v1_can_not_tell(everything: ScanHeader) -> None:
    header = header_to_v2(everything)
    header.measurement_information.patient_position = 77
    with pytest.raises(HeaderError, match="found 77, expected a patientPositionType"):
        header_to_xml(header)


def test_real_headers(shared_data: Path) -> None:
    for path in sorted((shared_data / "wire").glob("*.h5")):
        with ScanFile(path) as scan:
            header = scan.header
        assert ScanHeader.from_xml(header_to_xml(header_to_v2(header))).ismrmrd == header.ismrmrd


def test_hints_are_read() -> None:
    assert inner_type(list[int] | None) == (int, True)
    assert inner_type(None | int) == (int, False)
