import numpy as np
import pytest

from chpnet_stream.simulation.phantom import HeadPhantom, Points
from chpnet_stream.simulation.tissues import Tissue


def axial(z_mm: float, size: int = 120, step_mm: float = 2.0) -> Points:
    axis = ((np.arange(size) - size // 2) * step_mm).astype(np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y, np.full_like(x, z_mm)


def test_the_seed_decides() -> None:
    points = axial(20.0)
    first, again, other = (HeadPhantom(seed).labels(points) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert 0.02 < np.mean(first != other) < 0.5


def test_it_is_as_large_as_a_head_and_in_the_middle() -> None:
    x, y, z = axial(0.0)
    head = HeadPhantom(0).labels((x, y, z)) != Tissue.AIR
    assert 145 < np.ptp(x[head]) < 170
    assert 180 < np.ptp(y[head]) < 210
    assert abs(x[head].mean()) < 3
    assert abs(y[head].mean()) < 8
    border = np.concatenate([head[0], head[-1], head[:, 0], head[:, -1]])
    assert not border.any()


def test_eyes_look_forward() -> None:
    x, y, z = axial(-40.0)
    lens = HeadPhantom(0).labels((x, y, z)) == Tissue.LENS
    assert lens.any()
    assert y[lens].max() < -60
    assert {-1.0, 1.0} == set(np.sign(x[lens]))


def test_layers_from_outside_to_inside() -> None:
    x = np.linspace(100, 40, 1200, dtype=np.float32)
    labels = HeadPhantom(0).labels((x, np.full_like(x, 30.0), np.full_like(x, 30.0)))
    order = [Tissue(label) for label in dict.fromkeys(labels.tolist())]
    layers = [Tissue.AIR, Tissue.SKIN, Tissue.FAT, Tissue.BONE, Tissue.MARROW, Tissue.DURA]
    assert order[: len(layers)] == layers
    assert {Tissue.CSF, Tissue.GREY} <= set(order[len(layers) :])


def test_a_brain_slice_has_all_its_tissues_in_sensible_amounts() -> None:
    labels = HeadPhantom(0).labels(axial(12.0))
    brain = np.isin(labels, [Tissue.GREY, Tissue.WHITE, Tissue.CSF, Tissue.DEEP_GREY])
    shares = {t: np.sum(labels == t) / brain.sum() for t in Tissue}
    assert 0.2 < shares[Tissue.GREY] < 0.6
    assert 0.2 < shares[Tissue.WHITE] < 0.6
    assert 0.05 < shares[Tissue.CSF] < 0.35
    assert shares[Tissue.DEEP_GREY] > 0.02


def test_neighbouring_slices_belong_together() -> None:
    phantom = HeadPhantom(0)
    here, near, far = (phantom.labels(axial(z)) for z in (30.0, 30.5, 45.0))
    assert np.mean(here != near) < 0.04
    assert np.mean(here != far) > 2 * np.mean(here != near)


def test_points_are_judged_one_by_one() -> None:
    phantom = HeadPhantom(0)
    x, y, z = axial(10.0)
    whole = phantom.image((x, y, z))
    part = phantom.image((x[::3, ::5], y[::3, ::5], z[::3, ::5]))
    np.testing.assert_allclose(part, whole[::3, ::5], rtol=1e-5)
    assert whole.dtype == np.float32


@pytest.mark.parametrize(
    ("weighting", "order"),
    [
        ("t1", [Tissue.WHITE, Tissue.GREY, Tissue.CSF]),
        ("t2", [Tissue.CSF, Tissue.GREY, Tissue.WHITE]),
    ],
)
def test_contrast(weighting: str, order: list[Tissue]) -> None:
    phantom, points = HeadPhantom(0), axial(10.0)
    labels, image = phantom.labels(points), phantom.image(points, weighting)
    means = [image[labels == tissue].mean() for tissue in order]
    assert means[0] > 1.3 * means[1] > 1.3 * 1.3 * means[2]
    assert image[labels == Tissue.AIR].max() == 0


def test_any_plane_can_be_cut() -> None:
    axis = np.linspace(-90, 90, 60, dtype=np.float32)
    z, y = np.meshgrid(-axis, axis, indexing="ij")
    sagittal = HeadPhantom(0).labels((np.full_like(z, 20.0), y, z))
    assert {Tissue.WHITE, Tissue.GREY, Tissue.CSF, Tissue.FAT} <= set(sagittal.ravel().tolist())
