import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.bank import SourceBank
from chpnet_training.cli import main
from tests.helpers import small_options
from tests.training.readers.dicom_files import NAME, write_dicom
from tests.training.test_cleaning import head


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code


@pytest.fixture
def folder(tmp_path):
    """Three pictures, a scan, and a DICOM series of two slices with a patient's name in it."""
    root = tmp_path / "in"
    (root / NAME).mkdir(parents=True)
    for seed in range(3):
        Image.fromarray(np.round(255 * head(seed=seed)).astype(np.uint8)).save(root / f"{seed}.png")
    for number in (1, 2):
        pixels = np.round(4000 * head(seed=10 + number)).astype(np.uint16)
        write_dicom(root / NAME / f"IM{number}", pixels, InstanceNumber=number)
    simulate_scan(root / "scan.h5", small_options(matrix=(128, 128), acceleration=1, coils=6))
    return root


def test_everything_in_one_file(folder, tmp_path, capsys):
    out = tmp_path / "new" / "data.h5"
    words = ("--validation", 0.3, "--test", 0.2, "--licence", "CC BY 4.0")
    assert run("prepare", folder, "--out", out, "--json", *words) == 0
    captured = capsys.readouterr()
    manifest = json.loads(captured.out)
    assert manifest["images"] == 7
    assert manifest["with k-space"] == 2
    assert {facts["kind"]: facts["kept"] for facts in manifest["sources"].values()} == {
        "images": 3,
        "dicom": 2,
        "ismrmrd": 2,
    }
    assert {facts["licence"] for facts in manifest["sources"].values()} == {"CC BY 4.0"}
    assert "6 files to read" in captured.err
    bank = SourceBank.load(out)
    assert {side for side, facts in manifest["splits"].items() if facts["images"]} == {
        "train", "val", "test",
    }  # fmt: skip
    for subject in set(bank.subjects):
        assert len(set(bank.split[bank.subjects == subject])) == 1
    kspace = bank.kspace(int(np.flatnonzero(bank.raw)[0]))
    assert kspace.shape[1:] == (128, 128)
    assert len(list(out.parent.iterdir())) == 1


def test_nothing_of_the_patient_is_in_the_file(folder, tmp_path):
    out = tmp_path / "data.h5"
    assert run("prepare", folder / NAME, "--out", out, "--validation", 0) == 0
    bank = SourceBank.load(out)
    assert len(bank) == 2
    texts = [bank.manifest, *bank.subjects, *bank.origins]
    content = out.read_bytes() + json.dumps([str(text) for text in texts]).encode()
    for secret in (b"Planted", b"Patientname", b"4711", b"19700101"):
        assert secret not in content
    with h5py.File(out) as file:
        names = []
        file.visit(names.append)
    assert set(names) >= {"images", "kspace", "table/subjects"}


def test_refusals_are_one_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:900])
    (tmp_path / "there.h5").touch()
    for words, says in (
        ((), "neither a PATH nor --phantoms"),
        (("absent",), "absent: no such file"),
        ((folder,), "cut.png"),
        ((folder, "--validation", 0.6, "--test", 0.6), "at most 0.9 together"),
        (("--phantoms", 1), "too few to hold one out"),
        ((folder / "0.png", "--kind", "nifti"), "not a readable NIfTI"),
    ):
        assert run("prepare", "--out", "data.h5", *words) == 2
        error = capsys.readouterr().err.splitlines()
        assert says in error[-1]
        assert error[-1].startswith("chpnet-train: error: ")
        assert not (tmp_path / "data.h5").exists()
    assert run("prepare", "--out", "there.h5", "--phantoms", 2) == 2
    assert "--overwrite" in capsys.readouterr().err
    words = ("prepare", folder, "--out", "data.h5", "--skip-unreadable", "--exclude", "scan.h5")
    assert run(*words, "--json") == 0
    captured = capsys.readouterr()
    assert "skipped" in captured.err
    sources = json.loads(captured.out)["sources"]
    assert sources["in"]["skipped by the reader"] == {"unreadable": 1}


def test_options_reach_the_readers(folder, tmp_path, capsys):
    out = tmp_path / "data.h5"
    words = ("--no-kspace", "--maximum-side", 100, "--step", 2, "--validation", 0)
    assert run("prepare", folder, "--out", out, "--json", *words) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["with k-space"] == 0
    assert manifest["sources"]["dicom"]["kept"] == 1
    assert SourceBank.load(out).shapes.max() <= 100


def test_a_folder_for_each_patient_where_all_are_one_by_their_header(folder, tmp_path, capsys):
    for number in (1, 2):
        path = folder / NAME / f"IM{number}"
        (folder / f"patient {number}").mkdir()
        path.rename(folder / f"patient {number}" / path.name)
    words = ("prepare", folder, "--exclude", "*.png", "--exclude", "scan.h5", "--validation", 0.5)
    out = tmp_path / "data.h5"
    assert run(*words, "--out", out) == 2
    assert "--ignore-identifiers with --subject-from" in capsys.readouterr().err
    options = ("--ignore-identifiers", "--subject-from", "parent")
    assert run(*words, "--out", out, *options) == 0
    bank = SourceBank.load(out)
    assert sorted(bank.split) == ["train", "val"]
    assert all(subject.startswith("patient-") for subject in bank.subjects)
    assert b"patient 1" not in out.read_bytes()


def test_phantoms_need_no_data(tmp_path, capsys):
    out, picture = tmp_path / "data.h5", tmp_path / "sheet.png"
    assert run("prepare", "--phantoms", 2, "--out", out, "--picture", picture) == 0
    assert "phantoms" in capsys.readouterr().out
    bank = SourceBank.load(out)
    assert (len(bank.indices("train")), len(bank.indices("val"))) == (5, 5)
    assert picture.is_file()


def test_interrupted_leaves_nothing(folder, tmp_path):
    """Ctrl-C after the first image, in a process of its own."""
    code = (
        "import sys\n"
        "from chpnet_training import collect\n"
        "from chpnet_training.cli import main\n"
        "take = collect._take\n"
        "def interrupt(*words):\n"
        "    take(*words)\n"
        "    raise KeyboardInterrupt\n"
        "collect._take = interrupt\n"
        "main(sys.argv[1:])\n"
    )
    out = tmp_path / "out" / "data.h5"
    words = [sys.executable, "-c", code, "prepare", str(folder), "--out", str(out)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1] == "chpnet-train: error: interrupted"
    assert list(out.parent.iterdir()) == []
