"""Limits of the quality gate from simulated scans, and the command that writes them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import EngineError, InputError, ReconstructionError
from chpnet_stream.network.gate_limits import GateLimits
from chpnet_stream.network.weights import find_model
from chpnet_stream.quality import problem_of
from chpnet_training.bank import SourceBank
from chpnet_training.cli import main
from chpnet_training.gate_calibration import (
    false_alarms,
    findings,
    good_scans,
    set_limits,
    upper_bound,
)
from chpnet_training.gate_scans import SCANS, draw_scan, judge, slice_of
from tests.network.models import tiny_config, untrained, write_model
from tests.sessions import FaultyEngine
from tests.training.tiny import tiny_bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> SourceBank:
    return SourceBank.load(tiny_bank(tmp_path_factory.mktemp("bank") / "data.h5"))


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that proposes nothing."""
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder, untrained(tiny_config(), strength=0.0))


@pytest.fixture(scope="module")
def engine(card: Path) -> PyTorchEngine:
    return PyTorchEngine(find_model(str(card)), torch.device("cpu"))


def test_upper_bound_is_clopper_and_pearsons() -> None:
    from scipy.stats import beta

    for found, total in ((0, 3000), (2, 3200), (5, 100), (99, 100)):
        expected = beta.ppf(0.95, found + 1, total - found)
        assert upper_bound(found, total) == pytest.approx(expected, rel=1e-6)
    assert upper_bound(3, 3) == 1.0


def test_scans_have_the_noise_that_their_noise_scan_tells(bank: SourceBank) -> None:
    scan = draw_scan(bank[0], np.random.default_rng(0))
    data, noise = slice_of(scan)
    white = torch.from_numpy(noise.whitening(5.0))
    pure = torch.from_numpy(scan.full - scan.clean)
    level = torch.einsum("vc,cyx->vyx", white, pure).abs().square().mean()
    assert float(level) == pytest.approx(1, rel=0.05)
    assert np.array_equal(data.sampled > 0, scan.mask)
    assert not data.kspace[:, ~scan.mask].any()
    assert SCANS.matrix_y[0] <= data.kspace.shape[1] <= SCANS.matrix_y[1]


def test_limits_hold_what_they_were_set_by_and_refuse_more(
    bank: SourceBank, engine: PyTorchEngine
) -> None:
    scans = list(good_scans(bank, "train", 12, 0))
    found = list(findings(iter(scans), engine))
    limits = set_limits([j.quality for j in found], margin=1.2, data="abc")
    assert (limits.slices, limits.margin, limits.data) == (12, 1.2, "abc")
    counted = false_alarms(found, limits)
    assert (counted.scans, counted.alarms, counted.marks) == (12, 0, 0)
    assert counted.upper == pytest.approx(1 - 0.05 ** (1 / 12))
    for spoil in (lambda x: 1.5 * x, lambda x: x.roll(4, 0), lambda x: x * torch.nan):
        bad = judge(scans[1], engine, spoil=spoil)
        assert problem_of(bad.quality, limits)[0] is not None or math.isnan(bad.quality.residual)
        assert math.isnan(bad.worse_db) or bad.worse_db > 1
    tight = limits.model_copy(update={"local": 1e-3})
    assert false_alarms(found, tight).alarms == 12


def test_a_network_that_makes_nan_can_not_be_limited(
    bank: SourceBank, engine: PyTorchEngine
) -> None:
    made = judge(
        draw_scan(bank[0], np.random.default_rng(1)), engine, spoil=lambda x: x * torch.nan
    )
    good = judge(draw_scan(bank[0], np.random.default_rng(1)), engine)
    for found in ([made.quality], [good.quality, made.quality]):
        with pytest.raises(ReconstructionError, match="found NaN; train it again"):
            set_limits(found)


def test_a_network_that_makes_nothing_can_not_be_limited(
    bank: SourceBank, engine: PyTorchEngine
) -> None:
    def fail(problem: object) -> torch.Tensor:
        raise EngineError("no such kernel")

    scans = good_scans(bank, "train", 2, 0)
    found = list(findings(scans, FaultyEngine(engine, fail)))
    assert found == []
    with pytest.raises(ReconstructionError, match="it made no image of any"):
        set_limits([j.quality for j in found])


def test_an_empty_split_is_told(bank: SourceBank) -> None:
    with pytest.raises(InputError, match="expected pictures in split 'test', found none"):
        next(good_scans(bank, "test", 1, 0))


def test_the_command_writes_the_card(
    bank: SourceBank, card: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> dict:
        with pytest.raises(SystemExit) as stop:
            main(["gate", str(card), "--data", str(bank.path), "--json", *map(str, words)])
        assert stop.value.code == 0
        return json.loads(capsys.readouterr().out)

    before = card.read_bytes()
    shown = run("--slices", 20, "--check", 5, "--dry-run")
    assert card.read_bytes() == before
    assert not shown["written"]
    assert shown["checked"] == 5
    assert run("--slices", 20, "--check", 0)["written"]
    limits = find_model(str(card)).card.gate
    assert limits != GateLimits()
    assert limits.slices == 20
    assert limits.data == bank.checksum[:12]
    assert limits.misfit == shown["misfit"]
