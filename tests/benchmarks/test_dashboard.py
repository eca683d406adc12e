"""The benchmark of the live view runs, and its table tells all three ways to be watched."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_table_has_every_image_and_every_picture(tmp_path: Path) -> None:
    out = tmp_path / "dashboard.md"
    words = ["--matrix", 48, "--slices", 1, "--repetitions", 3, "--rounds", 1, "--pages", 1]
    subprocess.run(
        [sys.executable, CHECKOUT / "benchmarks" / "dashboard.py", "--out", out, "--pace", "5"]
        + [str(word) for word in words],
        timeout=200,
        check=True,
    )
    lines = [line for line in out.read_text().splitlines() if "--dashboard" in line]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line[0] == "|"]
    assert [row[1] for row in rows] == [
        "without --dashboard",
        "--dashboard, no page open",
        "--dashboard, 1 pages open",
    ]
    for row in rows:
        assert row[2] == "3"
        p50, p95, p99, most = (float(cell) for cell in row[3:7])
        assert 0 < p50 <= p95 <= p99 <= most
        assert float(row[7]) > 0
    assert [row[8] for row in rows] == ["0", "0", "3"]
