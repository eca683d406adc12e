import json
import shutil
from pathlib import Path

import pytest

from chpnet_stream.cli.main import main
from chpnet_stream.network import weights


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--no-engines", *words])
    return stop.value.code, capsys.readouterr().out


def test_json_has_every_finding_with_its_advice(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capsys, "--json", "--port", "1")
    told = json.loads(out)
    assert code == 0
    assert told["ok"] is True
    sections = {f["section"] for f in told["findings"]}
    assert sections == {"python", "machine", "models", "folders", "ports", "gadgetron", "tools"}
    assert {f["name"] for f in told["findings"] if f["section"] == "ports"} == {"port 1"}
    for finding in told["findings"]:
        assert finding["level"] in ("ok", "info", "warn", "fail")
        assert finding["advice"] or finding["level"] in ("ok", "info")


def test_people_get_a_table_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capsys)
    assert code == 0
    assert "Nothing that is needed fails" in out
    assert "port 18000" in out
    assert "torch" in out


def test_the_exit_code_tells_that_something_needed_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(weights.MODELS / "chpnet-rt.json", tmp_path)
    monkeypatch.setattr(weights, "MODELS", tmp_path)
    code, out = doctor(capsys)
    assert code == 1
    assert "FAIL" in out
    assert "Something that is needed fails (1 failed" in out


def test_a_wrong_model_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--model", "chpnet-rtx"])
    assert stop.value.code == 2
    assert "chpnet-rt" in capsys.readouterr().err
