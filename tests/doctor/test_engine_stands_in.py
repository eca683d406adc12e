"""An engine that stands in for another one works, and is no reason to be content."""

from chpnet_stream.doctor import engine_probe
from chpnet_stream.doctor.engines import _engine
from chpnet_stream.engines import choice
from chpnet_stream.engines.choice import make_engine
from chpnet_stream.engines.stand_in import StandIn


def test_the_reason_is_told(tmp_path, monkeypatch):
    def stand_in(name, model):
        return StandIn(make_engine("onnx", model), "pytorch-cuda", "CUDA out of memory")

    path = engine_probe._scan(tmp_path, 48)
    monkeypatch.setattr(choice, "make_engine", stand_in)
    record = engine_probe._try("auto", "chpnet-rt", path)
    assert record["name"] == "onnx-cpu (instead of pytorch-cuda)"
    finding = _engine("auto", record, 48)
    assert finding.level == "warn"
    assert finding.found.startswith("onnx-cpu (instead of pytorch-cuda) on cpu: a slice of 48 x 48")
    assert finding.found.endswith(", because CUDA out of memory")
    assert finding.advice


def test_plans_that_are_missing_are_made_without_the_training_package_too():
    finding = _engine("tensorrt-rtx", {"error": "found no plans"}, 48)
    assert finding.level == "info"
    assert "--engine tensorrt-rtx makes plans" in finding.advice
    assert "chpnet-train compile" in finding.advice
