"""The comparison of student sizes runs, keeps what it has trained, and finds the front."""

import subprocess
import sys
from pathlib import Path

from tests.training.tiny import tiny_bank

CHECKOUT = Path(__file__).resolve().parents[2]
SMALL = "widths 16 32 48, T = 3"


def test_two_candidates(tmp_path):
    bank = tiny_bank(tmp_path / "bank.h5")
    table = tmp_path / "docs" / "tables" / "pareto.md"
    words = [sys.executable, str(CHECKOUT / "benchmarks" / "pareto.py"), "--data", str(bank)]
    words += ["--out", str(tmp_path / "runs"), "--steps", "1", "--repeats", "1", "--threads", "1"]
    words += ["--slices", "4", "--case", "4x48x64", "--only", SMALL, "--table", str(table)]
    first = subprocess.run(words, capture_output=True, text=True, timeout=200, check=True)
    assert "training 1 of 1" in first.stdout
    (row,) = [line for line in table.read_text().splitlines() if line.startswith(f"| {SMALL}")]
    assert row.rstrip(" |").endswith("yes")
    assert (tmp_path / "docs" / "pictures" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path) not in table.read_text()
    given = f"--steps 1 --slices 4 --case 4x48x64 --repeats 1 --threads 1 --only '{SMALL}'"
    assert f"`python benchmarks/pareto.py --data DATA --out OUT {given}`" in table.read_text()


def test_the_front_is_what_nobody_beats():
    code = (
        "from pareto import Point, mark_efficient\n"
        "points = [Point(n, 1, 1.0, psnr, 0.9, ms) for n, psnr, ms in\n"
        "          (('a', 30.0, 10.0), ('b', 31.0, 20.0), ('c', 30.5, 25.0), ('d', 30.0, 12.0))]\n"
        "mark_efficient(points)\n"
        "print([p.name for p in points if p.efficient])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT / "benchmarks",
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert out.stdout.strip() == "['a', 'b']"
