import dataclasses
import math

import pytest
import torch

from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import InputError, ModelError
from chpnet_stream.network.weights import find_model
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.compilation import HalfEngine
from chpnet_training.parity import (
    TOLERANCES,
    Parity,
    measure_parity,
    measured_examples,
    refuse,
    simulated_examples,
)
from tests.helpers import small_options

GOOD = Parity(4, 95.0, 99.0, 0.001, 0.002, 35.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def examples():
    return simulated_examples("kspace", 2, matrix=48)


def test_precisions_are_told_apart(tiny_model, examples):
    """From exact to coarse, as the formats are."""
    model = find_model(tiny_model())
    engines = {
        "fp64": PyTorchEngine(model, CPU),
        "fp32": OnnxEngine(model),
        "fp16": HalfEngine(model),
        "bf16": PyTorchEngine(model, CPU, precision="bf16"),
    }
    reports = {name: measure_parity(model, e, examples) for name, e in engines.items()}
    decibels = [reports[name].output_db for name in ("fp32", "fp16", "bf16")]
    assert decibels == sorted(decibels, reverse=True)
    assert decibels[0] > TOLERANCES["fp32"].output_db
    assert decibels[1] > decibels[2] + 10  # three bits are 18 dB
    for name in ("fp32", "fp16"):
        refuse(reports[name], name)


def test_a_wrong_network_is_refused(tiny_model, examples):
    model = find_model(tiny_model())

    class Wrong(PyTorchEngine):
        def run(self, problem):
            return 1.01 * super().run(problem)

    report = measure_parity(model, Wrong(model, CPU), examples)
    assert 30 < report.output_db < 60
    with pytest.raises(ModelError, match=r"expected at least 60 dB; nothing was written"):
        refuse(report, "fp16")


def test_progress_and_numbers(tiny_model, examples):
    model = find_model(tiny_model())
    told = []
    report = measure_parity(model, OnnxEngine(model), examples, lambda *n: told.append(n))
    assert told == [(1, 2), (2, 2)]
    numbers = report.numbers()
    assert numbers["images"] == 2
    assert numbers["reference_db"] == pytest.approx(report.reference_db, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output_db": 59.9}, "found outputs 59.9 dB"),
        ({"output_db": math.nan}, "found outputs nan dB"),
        ({"loss_db": 0.051}, "found a loss of quality of 0.051 dB"),
        ({"loss_db": math.nan}, "found a loss of quality of nan dB"),
    ],
)
def test_limits(change, says):
    refuse(GOOD, "fp16")
    with pytest.raises(ModelError, match=says):
        refuse(dataclasses.replace(GOOD, **change), "fp16")


def test_a_tolerance_can_be_given():
    worse = dataclasses.replace(GOOD, loss_db=0.3)
    refuse(worse, "fp16", 0.4)
    with pytest.raises(ModelError, match=r"at most 0\.2 dB.*--tolerance"):
        refuse(worse, "fp16", 0.2)


def test_a_measured_scan(tiny_model, tmp_path):
    scan = tmp_path / "scan.h5"
    simulate_scan(scan, small_options(acceleration=1, slices=1))
    card = find_model(tiny_model()).card
    found = measured_examples(scan, card, (2, 4))
    assert len(found) == 2
    for example in found:
        assert example.target.shape == example.problem.start.shape
        error = (example.problem.start - example.target).norm() / example.target.norm()
        assert 0 < error < 0.5  # CG-SENSE is near the truth, and is not it
    superres = find_model(tiny_model("chpnet", "superres")).card
    with pytest.raises(InputError, match="expected one for 'kspace'"):
        measured_examples(scan, superres)


def test_an_undersampled_scan_is_refused(tiny_model, small_scan):
    with pytest.raises(InputError, match="fully sampled"):
        measured_examples(small_scan, find_model(tiny_model()).card)
