import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from chpnet_training.curves import Curves


def shown(folder):
    """What TensorBoard shows: step and value by tag."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_values_are_shown_by_tag_and_step(tmp_path):
    curves = Curves(tmp_path / "new")
    assert not list(tmp_path.iterdir())
    curves.write(2, {"psnr": 30.5, "loss": 0.25})
    curves.write(4, {"psnr": 31.5})
    assert shown(tmp_path / "new") == {"psnr": [(2, 30.5), (4, 31.5)], "loss": [(2, 0.25)]}
    (file,) = (tmp_path / "new").iterdir()
    assert file.name.startswith("events.out.tfevents.")


def test_a_later_file_hides_what_came_after_its_first_step(tmp_path):
    first = Curves(tmp_path)
    for step in (2, 4, 6):
        first.write(step, {"psnr": float(step)})
    Curves(tmp_path).write(4, {"psnr": 40.0})
    assert len(list(tmp_path.iterdir())) == 2
    assert shown(tmp_path) == {"psnr": [(2, 2.0), (4, 40.0)]}
