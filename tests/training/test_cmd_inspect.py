import json

import h5py
import pytest

from chpnet_training.cli import main


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    assert run("prepare", "--phantoms", 2, "--out", path) == 0
    return path


def test_manifest_and_picture(data, tmp_path, capsys):
    picture = tmp_path / "sheet.png"
    assert run("inspect", data, "--verify", "--picture", picture) == 0
    out = capsys.readouterr().out
    for words in ("5 images of 1 subjects", "phantoms", "simulated by chpnet-stream", "verified"):
        assert words in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("inspect", data, "--picture", picture) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("inspect", data, "--json") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["images"] == 10
    assert len(manifest["checksum"]) == 64


def test_damage_is_found(data, tmp_path, capsys):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(data.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["images"][7, 0, 0] = 1
    assert run("inspect", copy) == 0
    assert run("inspect", copy, "--verify") == 2
    assert "image 7 does not fit its checksum" in capsys.readouterr().err
    assert run("inspect", tmp_path / "absent.h5") == 2
