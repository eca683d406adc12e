"""Images on the pixels of reconSpace."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from chpnet_stream.cli.main import main
from chpnet_stream.mrd.header import Encoding, ScanHeader
from chpnet_stream.recon_pixels import on_recon_pixels
from tests.programs import images_in
from tests.scan.building import header_xml
from tests.sessions import run, simulated


def asking_for(xml: str, matrix: tuple[int, int], fov_mm: tuple[float, float] | None = None) -> str:
    """The header with another matrix `(x, y)`, and field of view, in its reconSpaces."""
    first, *others = xml.split("<reconSpace>")
    for number, other in enumerate(others):
        for tag, axes in (("matrixSize", matrix), ("fieldOfView_mm", fov_mm)):
            if axes is not None:
                start, end = other.index(f"<{tag}>"), other.index("<z>", other.index(f"<{tag}>"))
                other = f"{other[:start]}<{tag}><x>{axes[0]}</x><y>{axes[1]}</y>{other[end:]}"
        others[number] = other
    return "<reconSpace>".join([first, *others])


def encoding(
    matrix: tuple[int, int], fov_mm: tuple[float, float] | None = None, nx: int = 32, ny: int = 16
) -> Encoding:
    """Of a scan of nx x ny pixels of 1 mm, twice oversampled along x."""
    return ScanHeader.from_xml(asking_for(header_xml(nx, ny), matrix, fov_mm)).encodings[0]


@pytest.mark.parametrize(
    ("matrix", "fov_mm", "sizes", "steps"),
    [
        ((32, 16), None, (32, 16), (1, 1)),  # what was encoded
        ((32, 32), None, (32, 32), (1, 0.5)),  # half the phase resolution
        ((64, 64), None, (64, 64), (0.5, 0.25)),  # and interpolation by two
        ((32, 16), (32, 12), (32, 16), (1, 0.75)),  # 4 mm of phase oversampling
        ((32, 16), (32, 15.9), (32, 16), (1, 1)),  # rounding of the protocol is none
        ((32, 15), (32, 11), (32, 15), (1, 11 / 15)),  # no whole number of samples to fill up to
        ((32, 40), (32, 20), (32, 32), (1, 0.5)),  # 20 mm shown of 16 measured: not padded
        ((16, 8), None, (32, 16), (1, 1)),  # never coarser
        ((32, 65), None, (32, 16), (1, 1)),  # no header of a scanner
    ],
)
def test_pixels_of_an_axis(matrix, fov_mm, sizes, steps):
    found = [encoding(matrix, fov_mm).enlarged(axis) for axis in (0, 1)]
    assert [size for size, _ in found] == list(sizes)
    np.testing.assert_allclose([step for _, step in found], steps, rtol=1e-12)


@pytest.mark.parametrize("fov_mm", [None, (32, 12), (24, 11)])
def test_an_object_stays_where_it_is(fov_mm):
    """Its place in mm from the pixel n // 2, that the header's position is of."""
    asked = encoding((64, 40), fov_mm)
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in (16, 32))
    image = torch.exp(-0.3 * ((y[:, None] + 2.25) ** 2 + (x - 4.5) ** 2)).to(torch.complex128)
    found = on_recon_pixels(image, asked).abs().numpy()
    assert found.shape == (40, 64)
    sizes = [wide / n for wide, n in zip(asked.recon.field_of_view_mm, (64, 40), strict=False)]
    mm_x, mm_y = ((np.arange(n) - n // 2) * size for n, size in zip((64, 40), sizes, strict=True))
    wanted = np.exp(-0.3 * ((mm_y[:, None] + 2.25) ** 2 + (mm_x - 4.5) ** 2))
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_magnitudes_do_not_become_negative():
    image = torch.zeros(16, 32)
    image[8, 16] = 1
    found = on_recon_pixels(image, encoding((64, 48)))
    assert found.dtype == torch.float32
    assert (float(found.min()), round(float(found.max()), 5)) == (0, 1)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 lines of 64 samples that are to be shown as 72 x 128 pixels."""
    folder = tmp_path_factory.mktemp("finer")
    path = simulated(folder, matrix=(48, 64), fov_mm=(180.0, 240.0))
    shutil.copy(path, folder / "finer.h5")
    with h5py.File(folder / "finer.h5", "r+") as file:
        file["dataset/xml"][0] = asking_for(file["dataset/xml"][0].decode(), (128, 72))
    return folder / "finer.h5"


@pytest.mark.parametrize("method", ["cg-sense", "zero-filled"])
def test_images_of_a_scan_are_zero_filled(scan: Path, method: str) -> None:
    how = {"method": method, "image_type": "complex"}
    _, plain = run(scan, image_matrix="encoded", **how)
    session, images = run(scan, **how)
    for one, image in zip(plain, images, strict=True):
        assert one.result.image.shape == (48, 64)
        assert "interpolated" not in one.result.notes
        centred = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(one.result.image)))
        filled = np.fft.ifftshift(np.pad(centred, ((12, 12), (32, 32))))
        wanted = np.fft.fftshift(np.fft.ifft2(filled)) * (72 * 128) / (48 * 64)
        np.testing.assert_allclose(image.result.image, wanted, atol=1e-4 * np.abs(wanted).max())
        made = session.to_ismrmrd(image)
        assert tuple(made.getHead().matrix_size) == (128, 72, 1)
        assert tuple(made.field_of_view) == (240.0, 180.0, 4.0)
        assert made.meta["ImageProcessingHistory"][-2:] == ["interpolated", method]


def test_the_last_method_is_interpolated_too(scan: Path) -> None:
    _, plain = run(scan, method="rss", image_matrix="encoded")
    _, images = run(scan, method="rss")
    for one, image in zip(plain, images, strict=True):
        assert image.result.image.shape == (72, 128)
        assert image.result.image.min() >= 0
        assert image.result.image.mean() == pytest.approx(one.result.image.mean(), rel=0.02)


def test_offline_writes_the_matrix_that_is_asked_for(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, more, size in (("a", [], (72, 128)), ("b", ["--image-matrix", "encoded"], (48, 64))):
        out = tmp_path / f"{name}.h5"
        with pytest.raises(SystemExit) as stop:
            main(["offline", str(scan), "-o", str(out), "--method", "cg-sense", *more])
        assert stop.value.code == 0
        assert {image.data.shape[-2:] for image in images_in(out)} == {size}
