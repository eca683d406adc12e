import pytest
import torch

from chpnet_training.macs import count_macs, macs_of_recipe
from chpnet_training.runs import build_network
from chpnet_training.teacher import SwinTeacher, TeacherConfig
from chpnet_training.unet import UNet, UNetConfig
from tests.training.tiny_runs import recipe_for_all


@pytest.mark.parametrize(("task", "channels"), [("kspace", 2), ("superres", 1)])
@pytest.mark.parametrize("shape", [(16, 16), (13, 18)])
def test_any_matrix_and_any_unit(task, channels, shape):
    network = UNet(UNetConfig(widths=(4, 8, 8)), task)
    start = torch.randn(2, channels, *shape)
    noise = torch.full((2, 1, 1, 1), 0.1)
    with torch.no_grad():
        image = network(start, start, None, noise)
        scaled = network(1000 * start, start, None, 1000 * noise)
    assert image.shape == start.shape
    torch.testing.assert_close(scaled, 1000 * image, rtol=1e-4, atol=1e-2)
    assert float((image - start).norm()) > 0


def test_it_never_sees_the_data():
    network = UNet(UNetConfig(widths=(4, 8)))
    start, noise = torch.randn(1, 2, 8, 8), torch.zeros(1, 1, 1, 1)
    one = network(start, torch.zeros_like(start), None, noise)
    assert torch.equal(one, network(start, torch.ones_like(start), None, noise))


def test_macs_of_one_level_by_hand():
    """3 x 3 convolutions from 3 to 4 to 4 channels, 4 to 8 to 8 below, up, and back."""
    network = UNet(UNetConfig(widths=(4, 8)))
    pixels = 8 * 8
    expected = pixels * 9 * (3 * 4 + 4 * 4) + pixels // 4 * 9 * (4 * 8 + 8 * 8)
    expected += pixels // 4 * 8 * 4 * 4  # transposed convolution
    expected += pixels * 9 * (8 * 4 + 4 * 4) + pixels * 4 * 2
    assert count_macs(network, 8, 8) == expected


def test_macs_grow_with_the_image_and_leave_the_network_alone():
    for network in (UNet(UNetConfig(widths=(4, 8))), build_network(recipe_for_all(), "student")):
        before = {key: value.clone() for key, value in network.state_dict().items()}
        assert count_macs(network, 32, 32) == 4 * count_macs(network, 16, 16)
        assert all(torch.equal(before[key], now) for key, now in network.state_dict().items())


def test_a_teacher_with_buffers_is_counted_too():
    config = TeacherConfig(width=8, heads=2, blocks=1, window=4, iterations=1)
    one = count_macs(SwinTeacher(config), 16, 16)
    two = count_macs(SwinTeacher(config.model_copy(update={"blocks": 2})), 16, 16)
    assert 0 < one < two


def test_macs_of_a_recipe_are_those_of_its_largest_slice():
    recipe = recipe_for_all()
    network = build_network(recipe, "student")
    assert macs_of_recipe(network, recipe) == count_macs(network, 40, 24)
    recipe = recipe_for_all(student={"task": "superres"}, superres={"matrix": 48})
    network = build_network(recipe, "student")
    assert macs_of_recipe(network, recipe) == count_macs(network, 48, 48, 1)
