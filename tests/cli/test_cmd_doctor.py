import json
import shutil
import socket
import threading
from pathlib import Path

import pytest

from chpnet_stream.cli.main import main
from chpnet_stream.mrd_server import MrdServer
from chpnet_stream.network import weights
from tests.programs import chpnet, running


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


def test_a_health_check_asks_the_server_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = MrdServer(port=0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    port = str(server.address[1])
    try:
        code, out = doctor(capsys, "--answers", port, "--json")
    finally:
        server.stop()
        thread.join()
    assert code == 0
    (found,) = json.loads(out)["findings"]
    assert found["found"].startswith("an MRD server, which says 'chpnet-stream")
    assert server.failed == 0
    code, out = doctor(capsys, "--answers", port)  # it has ended
    assert code == 1
    assert "expected a server of ours, found one that takes no connection" in " ".join(out.split())


def test_another_server_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    def hello() -> None:
        sock, _ = listening.accept()
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        sock.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=hello)
        thread.start()
        code, out = doctor(capsys, "--answers", str(listening.getsockname()[1]))
        thread.join()
    assert code == 1
    assert "found one that does not answer as an MRD server does" in " ".join(out.split())


def test_a_gadget_that_listens_is_healthy() -> None:
    with running("gadget") as gadget:
        done = chpnet("doctor", "--answers", gadget.port, "--json")
    assert done.returncode == 0, done.stdout
    assert "a gadget listens there" in json.loads(done.stdout)["findings"][0]["found"]
