"""Pictures: what is written is what was handed in."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chpnet_stream import pictures
from chpnet_stream.errors import ConfigurationError, OutputError
from chpnet_stream.pictures import Panel, require_matplotlib, save_comparison, save_png


def ramp(shape: tuple[int, int] = (30, 50)) -> np.ndarray:
    return np.linspace(0, 100, shape[0] * shape[1]).reshape(shape)


def test_a_png_has_the_pixels_and_the_window(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", ramp(), (20.0, 80.0))
    grey = np.asarray(Image.open(tmp_path / "a.png").convert("L"), dtype=float)
    expected = np.clip((ramp() - 20) / 60, 0, 1) * 255
    assert grey.shape == (30, 50)
    np.testing.assert_allclose(grey, expected, atol=2)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


def test_an_empty_image_is_black(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", np.zeros((4, 4)), (0.0, 0.0))
    assert not np.asarray(Image.open(tmp_path / "a.png").convert("L")).any()


@pytest.mark.parametrize("errors", [True, False])
def test_a_comparison_has_its_panels(errors: bool, tmp_path: Path) -> None:
    image = ramp((40, 40))
    panels = [
        Panel("one", "1 ms", image, 0.1 * image if errors else None),
        Panel("other", "2 ms", image),
        Panel("empty", "", 0 * image),
    ]
    save_comparison(tmp_path / "c.png", panels, "a scan")
    picture = np.asarray(Image.open(tmp_path / "c.png").convert("RGB"), dtype=int)
    third = picture.shape[1] // 3
    top = picture[: picture.shape[0] // 2]
    assert top[:, :third].max() > 200
    lower = picture[picture.shape[0] * 2 // 3 :]
    colourful = (lower.max(-1) - lower.min(-1)).max()
    assert (colourful > 60) == errors
    assert list(tmp_path.iterdir()) == [tmp_path / "c.png"]


def test_panels_turn_with_their_errors() -> None:
    panel = Panel("a", "", ramp(), -ramp()).turned(lambda x: x[::-1])
    np.testing.assert_array_equal(panel.image, ramp()[::-1])
    np.testing.assert_array_equal(panel.error, -ramp()[::-1])
    assert Panel("a", "", ramp()).turned(np.transpose).image.shape == (50, 30)


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"can't write .*a\.png"):
        save_png(tmp_path / "file" / "a.png", ramp(), (0, 1))
    with pytest.raises(OutputError, match=r"can't write .*none"):
        save_comparison(tmp_path / "none" / "a.png", [Panel("a", "", ramp())], "")


def test_matplotlib_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    require_matplotlib()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"chpnet-stream\[plots\]"):
        require_matplotlib()


def test_a_home_that_cannot_be_written_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "/proc/nowhere")
    pictures.use_private_cache()
    assert os.access(os.environ["MPLCONFIGDIR"], os.W_OK)
