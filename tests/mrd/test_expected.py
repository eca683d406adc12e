from chpnet_stream.mrd.expected import expect
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import ScanHeader
from tests.scan.building import Scan, header_xml, random_kspace, write_scan


def expected_of(scan, path):
    write_scan(scan, path)
    with ScanFile(path) as file:
        return expect(file)


def test_partitions_are_those_of_the_encoding_that_has_the_images(tmp_path):
    """A calibration scan of a slab of 4, then 2-D slices, in encoding spaces 0 and 1."""
    xml = header_xml(encodings=2, limits={"kspace_encoding_step_2": (0, 3, 2)})
    xml = xml.replace("<z>1</z></matrixSize>", "<z>4</z></matrixSize>", 2)
    scan = Scan(ScanHeader.from_xml(xml), random_kspace((3, 1, 16, 64), 32))
    assert [e.is_3d for e in scan.header.encodings] == [True, False]
    scan.lines(range(16), last=(20,), flags=1 << 19)
    for n in range(3):
        scan.lines(range(16), slice=n, encoding_space_ref=1)
    found = expected_of(scan, tmp_path / "two.h5")
    assert (found.images, found.positions, found.partitions) == (3, 3, 1)
    assert found.middle == (1, 0)


def test_a_slab_gives_an_image_for_each_partition(tmp_path):
    scan = Scan.of(nz=4)
    for kz in range(4):
        scan.lines(range(16), kz=kz, repetition=1)
    found = expected_of(scan, tmp_path / "slab.h5")
    assert (found.images, found.positions, found.partitions) == (4, 4, 4)
    assert found.keys == {(0, 0, 0, 1, 0)}
