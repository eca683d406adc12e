"""Servers that are watched, as people start them: page, metrics, summaries, JSON log."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from chpnet_stream.cli.main import main
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close
from tests.gadgets.peers import exchange, greeting, raw
from tests.scan.building import header_xml
from tests.streaming.test_record import PRIVATE, with_patient


def test_a_gadget_server_that_is_watched(small_scan: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "chpnet_stream", "gadget", "--port", "0", "--threads", "1"]
    words += ["--property", "method=rss", "--dashboard", "0", "--log-json"]
    words += ["--summary", str(tmp_path / "summaries"), "--summary-keep", "2"]
    env = os.environ | {"CHPNET_DASHBOARD_TOKEN": "a-token-for-this-test"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr is not None
    log: list[dict[str, object]] = []
    try:
        while not log or "listening" not in str(log[-1]["message"]):
            log.append(json.loads(process.stderr.readline()))
        view = re.search(r"live view at (\S+), metrics at (\S+)", str(log[0]["message"]))
        assert view is not None
        port = int(str(log[-1]["message"]).split("port ")[1].split()[0])
        with ScanFile(small_scan) as scan:
            data = greeting(with_patient(scan.header.xml)) + raw(*scan.acquisitions(), Close())
        bad = greeting(header_xml(trajectory="spiral").encode()) + raw(Close())
        for conversation in (data, bad, data):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.settimeout(60)
                exchange(sock, conversation)
            log.append(json.loads(process.stderr.readline()))
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(view[2])  # noqa: S310
        request = urllib.request.Request(view[2])  # noqa: S310
        request.add_header("Authorization", "Bearer a-token-for-this-test")
        metrics = ""
        while 'chpnet_scans_total{outcome="done"} 2.0' not in metrics:  # a thread of its own counts
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                metrics = answer.read().decode()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.stderr.close()
        process.wait()
    log += [json.loads(line) for line in rest.splitlines()]
    assert "stopped after 3 scans, 1 of them failed" in str(log[-1]["message"])
    ended = [entry for entry in log if entry.get("event") == "scan ended"]
    assert [entry["outcome"] for entry in ended] == ["done", "failed", "done"]
    assert len({str(entry["scan"]) for entry in ended}) == 3
    assert ended[0]["images"] == 2
    assert 'chpnet_scans_total{outcome="done"} 2.0' in metrics
    files = sorted((tmp_path / "summaries").iterdir())
    kept = [json.loads(path.read_text()) for path in files]
    assert [told["outcome"] for told in kept] == ["failed", "done"]
    assert [told["id"] for told in kept] == [entry["scan"] for entry in ended[1:]]
    everything = json.dumps([log, kept]) + metrics
    assert not [word for word in (*PRIVATE, "a-token-for-this-test") if word in everything]


@pytest.mark.parametrize("command", ["gadget", "serve"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--summary", "/dev/null/x"], "--summary /dev/null/x: can't write there"),
        (["--dashboard", "0", "--dashboard-host", "203.0.113.1"], "can't listen on 203.0.113.1"),
        (["--dashboard", "high"], "'high' is not a valid integer"),
    ],
)
def test_what_cannot_be_watched_is_told(
    command: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--port", "0", *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_short_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHPNET_DASHBOARD_TOKEN", "short")
    with pytest.raises(SystemExit) as stop:
        main(["gadget", "--port", "0", "--dashboard", "0"])
    assert stop.value.code == 2
    assert "at least 16" in capsys.readouterr().err


def test_without_its_packages_the_page_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit) as stop:
        main(["gadget", "--port", "0", "--dashboard", "0"])
    assert stop.value.code == 2
    assert "pip install 'chpnet-stream[serve]'" in capsys.readouterr().err


def test_beyond_this_machine_the_token_is_told_once_in_the_log() -> None:
    words = [sys.executable, "-m", "chpnet_stream", "gadget", "--port", "0", "--gadget", "images"]
    words += ["--dashboard", "0", "--dashboard-host", "0.0.0.0"]  # noqa: S104 - that is the test
    env = {k: v for k, v in os.environ.items() if k != "CHPNET_DASHBOARD_TOKEN"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"live view at http://0\.0\.0\.0:(\d+)/\?token=(\S{32,}),", line)
        assert found is not None
        port, token = found.groups()
        url = f"http://127.0.0.1:{port}/healthz"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url)
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            assert json.load(answer) == {"ok": True}
        while "listening" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 0
        assert token not in rest
    finally:
        if process.poll() is None:
            process.kill()
        process.stderr.close()
        process.wait()
