import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import ConfigurationError, InputError
from chpnet_training.baselines import equispaced_mask, raw_brain_problem, run_baselines


def test_mask_has_every_fourth_line_and_the_centre():
    mask = equispaced_mask(180, 4, 24)
    assert mask[::4].all()
    assert mask[78:102].all()
    assert mask.sum() == 63


def test_missing_brain_is_named(tmp_path):
    with pytest.raises(InputError, match=r"brain_full\.h5"):
        raw_brain_problem(tmp_path)


@pytest.mark.usefixtures("bart")
def test_problem_has_the_lines_of_the_undersampled_file(shared_data):
    problem = raw_brain_problem(shared_data)
    path = shared_data / "espirit-full-brain-8ch" / "brain_R4_acs24.h5"
    with ismrmrd.Dataset(str(path), "dataset", create_if_needed=False) as dataset:
        lines = [
            dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())
        ]
    rows = [line.idx.kspace_encode_step_1 for line in lines]
    assert sorted(rows) == list(np.flatnonzero(problem["mask"]))
    np.testing.assert_array_equal(problem["kspace"][:, rows[30]], lines[30].data)


@pytest.mark.usefixtures("bart")
def test_scores_on_the_real_brain(shared_data):
    """The project's own record of these baselines; their scores check masks, maps and metrics."""
    expected = {
        "zero-filled": (24.3, 0.773),
        "cg-sense": (31.2, 0.873),
        "tv": (33.9, 0.935),
        "l1-wavelet": (34.7, 0.941),
    }
    rows = run_baselines(raw_brain_problem(shared_data))
    assert [row.method for row in rows] == list(expected)
    for row in rows:
        psnr, ssim = expected[row.method]
        assert row.score.psnr == pytest.approx(psnr, abs=0.11)
        assert row.score.ssim == pytest.approx(ssim, abs=0.003)
        assert row.image.shape == (180, 230)


def test_unknown_method_is_refused(disk_problem):
    with pytest.raises(ConfigurationError, match="unknown baseline 'magic'"):
        run_baselines(disk_problem, ["magic"])


@pytest.fixture
def disk_problem():
    reference = np.pad(np.ones((8, 8)), 4)
    maps = np.ones((1, 16, 16), dtype=np.complex64)
    return {
        "kspace": np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(reference), norm="ortho"))[None],
        "maps": maps,
        "reference": reference,
        "object": reference > 0,
    }


def test_zero_filled_of_full_data_is_exact(disk_problem):
    (row,) = run_baselines(disk_problem, ["zero-filled"])
    assert row.score.psnr > 100
    assert row.score.ssim == pytest.approx(1)
