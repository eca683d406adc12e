"""`send` to `serve` and `gadget`: the pixels of `offline`, and the truth about what is missing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.cli.main import main
from chpnet_stream.errors import TruncatedFileError
from chpnet_stream.mrd.files import ScanFile
from tests.programs import Running, chpnet, images_in, running, same_pixels


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running("serve") as made:
        yield made


def test_send_to_serve(tmp_path: Path, scan: Path, wanted: list[Any], server: Running) -> None:
    out = tmp_path / "served.h5"
    done = chpnet("send", scan, "--port", server.port, "-o", out, "--pace", 4, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["expected_images"], told["error"]) == (6, 6, None)
    assert told["by_series"] == {"series 1": 6}
    assert 0 < told["latency_p50_ms"] <= told["latency_p95_ms"] <= told["latency_max_ms"]
    same_pixels(images_in(out), wanted)
    with ScanFile(scan) as original, ismrmrd.Dataset(str(out), "dataset", mode="r") as dataset:
        assert dataset.read_xml_header() == original.header.xml
        assert dataset.number_of_waveforms() == original.number_of_waveforms > 0


def test_send_to_gadget(tmp_path: Path, scan: Path, wanted: list[Any]) -> None:
    out = tmp_path / "gadget.h5"
    with running("gadget") as server:
        done = chpnet("send", scan, "--port", server.port, "-o", out)
        assert done.returncode == 0, done.stderr
        wrong = chpnet("send", scan, "--port", server.port, "--property", "metod=rss")
    same_pixels(images_in(out), wanted)
    assert wrong.returncode == 1
    assert "did you mean 'method'" in wrong.stderr


def test_images_as_uint16_and_two_series(tmp_path: Path, scan: Path, server: Running) -> None:
    out = tmp_path / "out.h5"
    words = ["--property", "dtype=uint16", "--property", "send_baseline=true"]
    done = chpnet("send", scan, "--port", server.port, "-o", out, *words)
    assert done.returncode == 0, done.stderr
    for series, method in (("image_1", "chpnet"), ("image_2", "cg-sense")):
        images = images_in(out, series)
        assert len(images) == 6
        assert {i.data.dtype for i in images} == {np.dtype(np.uint16)}
        assert {i.meta["ChpnetMethod"] for i in images} == {method}


def test_an_error_of_the_server_is_one_line(tmp_path: Path, scan: Path, server: Running) -> None:
    out = tmp_path / "out.h5"
    done = chpnet("send", scan, "--port", server.port, "-o", out, "--config", "chpnet_cartesia")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "unknown configuration 'chpnet_cartesia'; did you mean 'chpnet_cartesian'?" in line
    assert list(tmp_path.iterdir()) == []


def test_what_came_of_an_incomplete_scan_is_kept(
    tmp_path: Path, scan: Path, server: Running
) -> None:
    out = tmp_path / "out.h5"
    done = chpnet("send", scan, "--port", server.port, "-o", out, "--expect", 7, "--json")
    assert done.returncode == 1
    assert "found 6 images, expected 7" in done.stderr
    assert not out.exists()
    kept = tmp_path / "out_incomplete.h5"
    assert json.loads(done.stdout)["file"] == str(kept)
    assert len(images_in(kept)) == 6


def test_waveforms_that_can_not_be_copied_cost_no_images(
    tmp_path: Path, scan: Path, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(self: ScanFile, group: Any) -> int:
        raise TruncatedFileError("can't read the waveforms")

    monkeypatch.setattr(ScanFile, "copy_waveforms", damaged)
    out = tmp_path / "out.h5"
    with pytest.raises(SystemExit) as stop:
        main(["send", str(scan), "--port", str(server.port), "-o", str(out)])
    assert stop.value.code == 2
    assert len(images_in(tmp_path / "out_incomplete.h5")) == 6


def test_all_series_of_a_file_of_images(tmp_path: Path, scan: Path, server: Running) -> None:
    two = tmp_path / "two.h5"
    words = ["--property", "method=chpnet", "--property", "send_baseline=true"]
    assert chpnet("send", scan, "--port", server.port, "-o", two, *words).returncode == 0
    out = tmp_path / "out.h5"
    done = chpnet("send", two, "--images", "--port", server.port, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["by_series"] == {"series 1": 6, "series 2": 6}
    assert len(images_in(out)) == 6


def test_words_that_make_no_sense(tmp_path: Path, scan: Path) -> None:
    for words, fault in (
        (["--pace", "fast"], "expected realtime or how many times faster"),
        (["--config", "a", "--config-file", scan], "expected one of them"),
        (["-o", scan], "is the scan itself"),
        (["--group", "other"], "no group 'other'"),
        (["--images"], "no images in /dataset"),
    ):
        done = chpnet("send", scan, *words, "--wait", 0)
        assert done.returncode == 2, done.stderr
        assert fault in done.stderr
