"""From no data at all to a scored model, by the commands that people type."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from chpnet_stream.network.weights import find_model
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.cli import VERBS, cli, main
from chpnet_training.options import ALLOCATOR, EXIT_UNFINISHED, Duration, leave_unfinished
from chpnet_training.recipe import load_recipe
from tests.helpers import small_options

CHECKOUT = Path(__file__).resolve().parents[2]
QUICK = CHECKOUT / "configs" / "training" / "quick.yaml"

TINY = {
    "data.batch": "1",
    "student.widths": "[4, 8]",
    "student.iterations": "1",
    "simulation.matrix_y": "[48, 48]",
    "simulation.matrix_x": "[48, 48]",
    "simulation.strip": "24",
    "simulation.strips": "1",
    "simulation.coils": "[4, 4]",
    "optimizer.steps": "4",
    "optimizer.warmup": "1",
    "validation.slices": "1",
    "validation.every": "2",
}


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def student_words(bank: Path, run_folder: Path, **changes: object) -> list[str]:
    settings = TINY | {key.replace("__", "."): str(value) for key, value in changes.items()}
    words = ["student", str(QUICK), "--data", str(bank), "--out", str(run_folder)]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    return words


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "data.h5"
    assert run("prepare", "--phantoms", 2, "--out", path) == 0
    return path


@pytest.fixture(scope="module")
def trained(bank, tmp_path_factory):
    """The folder of a run that was trained to its end, in this process."""
    folder = tmp_path_factory.mktemp("run")
    assert run(*student_words(bank, folder), "--workers", 0) == 0
    return folder


@pytest.fixture(scope="module")
def model(bank, trained, tmp_path_factory):
    """The card of that run's model."""
    folder = tmp_path_factory.mktemp("model")
    assert run("export", trained / "last.ckpt", "--out", folder, "--data", bank) == 0
    return folder / "chpnet-quick.json"


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from chpnet_training.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    for verb in VERBS:
        assert verb in out.stdout
    heavy = {"torch", "numpy", "lightning", "onnxruntime", "h5py", "scipy", "pydantic", "yaml"}
    assert not heavy & set(out.stdout.split())


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_its_module(verb):
    command = cli.get_command(click.Context(cli), verb)
    assert isinstance(command, click.Command)
    assert command.help


def test_errors_name_this_program(capsys):
    assert run("studnt") == 2
    error = capsys.readouterr().err
    assert error.startswith("chpnet-train: error: no command 'studnt', did you mean student?")
    assert error.count("\n") == 1


def test_training_logs_and_saves(trained):
    with (trained / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == [2, 4]
    assert (trained / "last.ckpt").is_file()


def test_a_stopped_run_continues_by_the_same_command(bank, tmp_path, capsys):
    words = student_words(bank, tmp_path, optimizer__steps=3, validation__every=100)
    assert run(*words, "--workers", 0, "--max-time", "0s", "--json") == EXIT_UNFINISHED
    first = capsys.readouterr()
    assert json.loads(first.out)["step"] == 1
    assert json.loads(first.out)["finished"] is False
    assert "the same command continues" in first.err
    assert run(*words, "--workers", 0, "--json") == 0
    second = capsys.readouterr()
    assert "after step 1" in second.err
    outcome = json.loads(second.out)
    assert (outcome["step"], outcome["finished"]) == (3, True)


def test_the_time_counts_from_the_start_of_the_command(bank, tmp_path, capsys):
    """The slices of data.fixed take longer to simulate than there is time: one step is made."""
    words = student_words(bank, tmp_path, data__fixed=100, optimizer__steps=100000)
    assert run(*words, "--workers", 0, "--max-time", "0.2", "--json") == EXIT_UNFINISHED
    assert json.loads(capsys.readouterr().out)["step"] == 1


def test_torchrun_is_not_told_a_failure(monkeypatch):
    context = click.Context(cli)
    with pytest.raises(click.exceptions.Exit) as stop:
        leave_unfinished(context)
    assert stop.value.exit_code == 75  # as docs/errors.md says
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(click.exceptions.Exit) as stop:
        leave_unfinished(context)
    assert stop.value.exit_code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc")
def test_ctrl_c_saves_a_checkpoint(bank, tmp_path):
    words = student_words(bank, tmp_path, optimizer__steps=100000, validation__every=100000)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **ALLOCATOR}
    process = subprocess.Popen(
        [sys.executable, "-m", "chpnet_training", *words, "--threads", "1"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        bound = time.monotonic() + 60
        while len(_children(process.pid)) < 1 and time.monotonic() < bound:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "the same command continues" in err
    assert (tmp_path / "last.ckpt").is_file()


def _children(pid: int) -> list[str]:
    """Processes that the process has started: here the worker, so that training has begun."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def test_the_process_restarts_with_the_allocator_settings(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
    hook = tmp_path / "sitecustomize.py"
    hook.write_text(
        "import os, sys\n"
        "with open(os.environ['SEEN'], 'a') as file:\n"
        "    print(os.environ.get('MALLOC_MMAP_MAX_'), file=file)\n"
    )
    environment |= {"PYTHONPATH": str(tmp_path), "SEEN": str(tmp_path / "seen")}
    done = subprocess.run(
        [sys.executable, "-m", "chpnet_training", "student", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "--max-time" in done.stdout
    expected = ["None", "0"] if sys.platform == "linux" else ["None"]
    assert (tmp_path / "seen").read_text().split() == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "optimizer.step=3"], "did you mean 'steps'?"),
        (["--max-time", "soon"], "soon"),
        (["--set", "warmup.stepz=3"], "did you mean 'steps'?"),
        (["--precision", "16-mixed", "--accelerator", "cpu"], "take bf16-mixed"),
        (["--data", "missing.h5"], "missing.h5"),
    ],
)
def test_bad_settings_are_one_line(bank, tmp_path, capsys, words, says):
    given = ["student", QUICK, "--data", bank, "--out", tmp_path / "run", *words]
    assert run(*given) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("45m", 2700), ("1h30m", 5400), ("90s", 90), ("12", 12), ("0.5h", 1800)]
)
def test_durations(text, seconds):
    assert Duration().convert(text, None, None) == seconds


def test_model_of_a_run(model, bank, trained):
    found = find_model(model)
    found.verify()
    card = found.card
    assert [(source.name, source.images) for source in card.data] == [("phantoms", 5)]
    assert card.steps == 4
    with (trained / "validation.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    scores = card.metrics["simulated scans, held-out images"]
    assert scores["psnr_db"] == pytest.approx(float(last["psnr"]), abs=0.05)  # weights are rounded
    assert any("R = 3 to 4" in limit for limit in card.limits)


def test_export_refuses_what_is_no_checkpoint(bank, tmp_path, capsys):
    (tmp_path / "last.ckpt").write_bytes(b"nothing")
    assert run("export", tmp_path / "last.ckpt", "--out", tmp_path, "--data", bank) == 2
    error = capsys.readouterr().err
    assert "expected a checkpoint" in error
    assert error.count("\n") == 1


def test_evaluate_scores_a_scan_and_feeds_the_card(model, bank, trained, tmp_path, capsys):
    scan = tmp_path / "scan.h5"
    simulate_scan(scan, small_options(acceleration=1, slices=1))
    words = ["evaluate", model, "--data", scan, "-R", 2, "--calibration-lines", 16]
    words += ["--no-bart", "--repeats", 1]
    assert run(*words, "--out", tmp_path / "out", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    methods = {row["method"]: row for row in found["methods"]}
    assert list(methods) == ["zero-filled", "cg-sense", "chpnet"]
    assert methods["cg-sense"]["psnr_db"] > methods["zero-filled"]["psnr_db"] + 3
    assert methods["chpnet"]["image_ms"] > 0
    (network,) = found["networks"]
    assert (network["method"], network["name"], network["steps"]) == ("chpnet", "chpnet-quick", 4)
    assert network["gmac_320"] > 0
    assert "cores" in found["machine"]
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "out" / "evaluation.csv").open(newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["method"] == "chpnet"]
    assert float(row["psnr_db"]) == methods["chpnet"]["psnr_db"]
    metrics = tmp_path / "out" / "metrics.json"
    again = tmp_path / "again"
    words = ["export", trained / "last.ckpt", "--out", again, "--data", bank]
    words += ["--noise-factor", 0.5, "--cg-steps", 4]
    assert run(*words, "--metrics", metrics, "--name", "again") == 0
    card = find_model(again / "again.json").card
    assert (card.noise_factor, card.student.cg_steps) == (0.5, 4)
    (label,) = [key for key in card.metrics if key.startswith("scan.h5")]
    assert card.metrics[label]["psnr_db"] == pytest.approx(methods["chpnet"]["psnr_db"], abs=1e-4)


def test_evaluate_refuses_undersampled_data(model, small_scan, capsys):
    assert run("evaluate", model, "--data", small_scan) == 2
    error = capsys.readouterr().err
    assert "fully sampled" in error
    assert error.count("\n") == 1


def test_the_quick_recipe_is_valid():
    recipe = load_recipe(QUICK)
    assert recipe.simulation.strip <= recipe.simulation.matrix_x[0]
