from dataclasses import fields, replace

import pytest

from chpnet_stream.engines.plan_key import PlanKey, PlanShape, PlanShapes
from chpnet_stream.errors import ConfigurationError

KEY = PlanKey(
    ("a" * 64, "b" * 64),
    "tensorrt",
    "10.13.0",
    "sm_86",
    "fp16",
    ("1x64x64", "1x256x256", "4x512x512"),
)
OTHER = {
    "graphs": ("a" * 64, "c" * 64),
    "package": "tensorrt-rtx",
    "version": "10.13.1",
    "target": "sm_89",
    "precision": "fp32",
    "shapes": ("1x64x64", "1x256x256", "4x512x520"),
    "layout": 2,
}


@pytest.mark.parametrize("name", [field.name for field in fields(PlanKey)])
def test_every_part_changes_the_key(name):
    other = replace(KEY, **{name: OTHER[name]})
    assert other.digest != KEY.digest
    assert KEY.difference(other.as_json()).startswith(f"{name} ")
    assert KEY.difference(KEY.as_json()) == ""
    assert replace(KEY).digest == KEY.digest


def test_shapes_of_text():
    shapes = PlanShapes.parse("1x64x64", "1x256x256", "4X512x512", 8)
    assert shapes.usual == PlanShape(1, 256, 256)
    assert shapes.texts == ("1x64x64", "1x256x256", "4x512x512")
    assert shapes.hold(1, 64, 64)
    assert shapes.hold(4, 512, 512)
    assert not shapes.hold(5, 256, 256)
    assert not shapes.hold(1, 56, 256)
    assert not shapes.hold(1, 256, 520)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("1x64", "1x64x64", "1x64x64"), "found the shape '1x64', expected BATCHxROWSxCOLUMNS"),
        (("0x64x64", "1x64x64", "1x64x64"), "found the shape '0x64x64'"),
        (("2x64x64", "1x64x64", "1x64x64"), "found batch 2, 1, 1, expected the smallest"),
        (("1x64x64", "1x64x128", "1x64x64"), "found columns 64, 128, 64"),
        (("1x64x64", "1x100x64", "1x128x64"), "found 100 rows, expected a multiple of 8.*take 104"),
    ],
)
def test_shapes_that_are_none(texts, says):
    with pytest.raises(ConfigurationError, match=says):
        PlanShapes.parse(*texts, multiple=8)
