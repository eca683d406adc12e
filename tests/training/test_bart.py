import numpy as np
import pytest

from chpnet_stream.errors import ConfigurationError, InputError
from chpnet_training.bart import (
    bart_espirit,
    bart_pics,
    from_bart,
    read_cfl,
    run_bart,
    to_bart,
    write_cfl,
)


@pytest.fixture
def array():
    generator = np.random.default_rng(2)
    shape = (3, 4, 5)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


def test_cfl_round_trip(tmp_path, array):
    write_cfl(tmp_path / "a", array)
    np.testing.assert_array_equal(read_cfl(tmp_path / "a"), array)
    stored = np.fromfile(tmp_path / "a.cfl", dtype="<c8")
    assert stored[1] == array[1, 0, 0]  # the first index runs fastest


def test_cfl_of_the_wrong_size_is_refused(tmp_path, array):
    write_cfl(tmp_path / "a", array)
    (tmp_path / "a.cfl").write_bytes((tmp_path / "a.cfl").read_bytes()[:-8])
    with pytest.raises(InputError, match="472 bytes; expected 480"):
        read_cfl(tmp_path / "a")
    (tmp_path / "a.hdr").write_text("# Dimensions\nthree 4\n")
    with pytest.raises(InputError, match="expected dimensions as integers"):
        read_cfl(tmp_path / "a")
    with pytest.raises(InputError, match="no such file"):
        read_cfl(tmp_path / "b")


def test_axes_go_to_bart_and_back(array):
    assert to_bart(array).shape == (5, 4, 1, 3)
    assert to_bart(array)[4, 2, 0, 1] == array[1, 2, 4]
    np.testing.assert_array_equal(from_bart(to_bart(array)), array)
    assert from_bart(np.zeros((5, 4))).shape == (4, 5)


def test_absent_bart_is_named(monkeypatch, tmp_path, array):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="apt-get install bart"):
        run_bart(["fft", "3"], [array])


@pytest.mark.usefixtures("bart")
def test_failure_of_bart_is_quoted(array):
    with pytest.raises(InputError, match="`bart nosuchtool` failed"):
        run_bart(["nosuchtool"], [array])


@pytest.mark.usefixtures("bart")
def test_bart_fft_is_centred_and_unitary(array):
    result, seconds = run_bart(["fft", "-u", "3"], [array])
    axes = (0, 1)
    expected = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(array, axes=axes), axes=axes, norm="ortho"), axes=axes
    )
    np.testing.assert_allclose(result.reshape(array.shape), expected, atol=1e-5)
    assert seconds > 0


@pytest.mark.usefixtures("bart")
def test_sense_of_bart_recovers_a_phantom():
    simulated, _ = run_bart(["phantom", "-x", "64", "-k", "-s", "4"], [])
    kspace = from_bart(simulated)
    assert kspace.shape == (4, 64, 64)
    maps = bart_espirit(kspace)
    assert maps.shape == (4, 64, 64)
    norm = (np.abs(maps) ** 2).sum(axis=0)
    np.testing.assert_allclose(norm[norm > 0.5], 1, atol=1e-3)
    half = kspace.copy()
    keep = np.zeros(64, dtype=bool)
    keep[::2] = keep[20:44] = True
    half[:, ~keep] = 0
    full, _ = bart_pics(kspace, maps, ["-S", "-l2", "-r", "0.001"])
    image, _ = bart_pics(half, maps, ["-S", "-l2", "-r", "0.001"])
    assert image.shape == (64, 64)
    assert np.linalg.norm(np.abs(image) - np.abs(full)) < 0.1 * np.linalg.norm(full)
