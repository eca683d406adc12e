import json
import sys
from pathlib import Path

import pytest

from chpnet_stream.chain.installed import installed_chains
from chpnet_stream.cli.main import main
from tests.chain.chains import chain, external, shipped

CODE = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["chain", *words])
    return int(done.value.code or 0)


def test_a_chain_without_faults(capsys: CODE) -> None:
    assert run("chpnet_buffers") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("BucketToBufferGadget", "recon data", "errors", "warnings"):
        assert words in out


def test_faults_are_shown_and_end_with_2(tmp_path: Path, capsys: CODE) -> None:
    path = tmp_path / "mine.xml"
    path.write_text(chain(external("buffers", methd="rss"), external(modl="x")))
    assert run(str(path)) == 2
    out, err = capsys.readouterr()
    assert "did you mean 'method'" in out.replace("\n", " ")
    assert err.count("\n") == 1
    assert f"{path}, line 1: " in err
    assert "more" in err


def test_json(tmp_path: Path, capsys: CODE) -> None:
    path = tmp_path / "mine.xml"
    path.write_text(shipped("chpnet_cartesian").replace('"fallback"', '"falback"'))
    assert run(str(path), "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert found["chain"] == str(path)
    assert (found["errors"], found["warnings"]) == (1, 0)
    (finding,) = found["findings"]
    assert finding["level"] == "error"
    assert "did you mean 'fallback'" in finding["text"]
    assert [s["node"] for s in found["steps"]] == ["chpnet_gadgets.acquisitions"]


def test_warnings_alone_are_no_failure(tmp_path: Path, capsys: CODE) -> None:
    path = tmp_path / "mine.xml"
    path.write_text(shipped("chpnet_cartesian").replace("WaveformReader", "AcquisitionReader"))
    assert run(str(path)) == 0
    assert "warning" in capsys.readouterr().out


def test_the_installed_chains_are_listed(capsys: CODE) -> None:
    assert run("--list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [record["name"] for record in listed] == list(installed_chains())
    assert all(Path(record["path"]).is_file() for record in listed)
    assert run("--list") == 0
    assert "chpnet_realtime" in capsys.readouterr().out


def test_without_a_chain(capsys: CODE) -> None:
    assert run() == 2
    assert "--list" in capsys.readouterr().err


def test_a_file_that_is_no_chain(tmp_path: Path, capsys: CODE) -> None:
    path = tmp_path / "mine.xml"
    path.write_text("<a>")
    assert run(str(path)) == 2
    assert "no well-formed XML" in capsys.readouterr().err
