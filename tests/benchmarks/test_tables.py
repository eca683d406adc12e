"""The benchmarks run; their tables hold what they promise, and no names of the machine."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from chpnet_stream.simulation.scan import simulate_scan
from tests.helpers import small_options
from tests.training.tiny import tiny_bank, tiny_recipe
from tests.training.tiny_runs import make_run

CHECKOUT = Path(__file__).resolve().parents[2]


def run(name, *words, **environment):
    return subprocess.run(
        [sys.executable, str(CHECKOUT / "benchmarks" / name), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, **environment},
        check=True,
    )


def numbers(text, start):
    """The numeric cells of the row that begins with `start`."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [float(cell) for cell in line.split("|") if re.fullmatch(r" -?[\d.]+ ", cell)]


def test_speed(tmp_path):
    out = tmp_path / "speed.md"
    words = ["--model", "random", "--cases", "4x48x64", "--repeats", 2, "--warm-up", 1]
    done = run("speed.py", *words, "--paper-repeats", 1, "--out", out)
    assert done.stderr.startswith("speed: about 10 s\n")
    text = out.read_text()
    assert "## 4 coils, 48 x 64" in text
    median, p95, ratio = numbers(text, "| chpnet-rt | onnx-cpu |")
    assert 0 < median <= p95
    paper, _, one = numbers(text, "| chpnet (paper size) | pytorch-cpu |")
    assert one == 1.0
    assert abs(ratio - paper / median) < 0.1 * ratio
    whole, _ = numbers(text, "| onnx-cpu | **whole slice** |")
    assert whole > numbers(text, "| onnx-cpu | network |")[0]
    assert str(tmp_path) not in text
    assert str(CHECKOUT) not in text
    assert platform.node() not in text or len(platform.node()) < 4


def test_quality_without_data_leaves_the_table(tmp_path):
    out = tmp_path / "quality.md"
    done = run("quality.py", "--out", out, CHPNET_SHARED_DATA=str(tmp_path / "none"))
    assert "no raw data" in done.stdout
    assert not out.exists()


def test_quality_has_networks_of_training_runs_in_the_same_table(tmp_path):
    bank = tiny_bank(tmp_path / "bank.h5")
    make_run("unet", tiny_recipe(steps=2), bank, tmp_path / "run").run()
    scan, out = tmp_path / "scan.h5", tmp_path / "quality.md"
    simulate_scan(scan, small_options(acceleration=1, slices=1))
    words = ["--data", scan, "--accelerations", 2, "--calibration-lines", 16, "--repeats", 1]
    words += ["--no-bart", "--network", f"unet={tmp_path / 'run' / 'last.ckpt'}", "--out", out]
    run("quality.py", *words)
    text = out.read_text()
    psnr = {name: numbers(text, f"| {name} |")[0] for name in ("zero-filled", "chpnet")}
    assert psnr["chpnet"] > psnr["zero-filled"]
    gmac, steps, seed = numbers(text, "| unet | run/unet |")
    assert gmac > 1
    assert (steps, seed) == (2, 3)
    assert len(numbers(text, "| unet | chpnet-stream |")) == 6
    assert str(tmp_path) not in text


def test_gate(tmp_path):
    data = tiny_bank(tmp_path / "data.h5")
    out, picture = tmp_path / "gate.md", tmp_path / "gate.png"
    words = ["--data", data, "--good", 2, "--seeds", 2, 3, "--bad", 1, "--groups", "network"]
    words += ["--out", out, "--findings", tmp_path / "findings.json", "--picture", picture]
    run("gate.py", *words)
    text = out.read_text()
    assert "4 simulated slices (seeds 2, 3) of 1 pictures" in text
    for spoilt in ("NaN in one pixel", "image x 0.5", "upside down"):
        slices, refused, _, harmful, caught, area = numbers(text, f"| {spoilt} |")[:6]
        assert (slices, refused, harmful, caught, area) == (1, 100, 1, 100, 1)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path) not in text
    before = out.read_bytes()
    done = run("gate.py", *words)  # everything is known already
    assert "gate: good" not in done.stdout
    assert out.read_bytes() == before
