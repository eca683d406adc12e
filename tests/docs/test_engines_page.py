"""docs/engines.md says what the code does."""

from pathlib import Path

from chpnet_stream.engines.allowed import table_markdown
from chpnet_stream.engines.plan_store import CACHE_VARIABLE
from chpnet_stream.engines.tensorrt import DEFAULT_SHAPES
from chpnet_training import cmd_compile
from chpnet_training.parity import TOLERANCES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")


def test_the_table_is_the_code_s():
    begin, end = "<!-- table: chpnet_stream.engines.allowed -->\n", "\n<!-- end of table -->"
    assert PAGE.partition(begin)[2].partition(end)[0] == table_markdown()


def test_tolerances_are_the_code_s():
    for precision, limit in TOLERANCES.items():
        row = f"| {precision} | at least {limit.output_db:g} dB | at most {limit.loss_db:g} dB |"
        assert row in PAGE


def test_defaults_are_the_code_s():
    assert " ".join(DEFAULT_SHAPES) in PAGE
    assert cmd_compile.DEFAULT_SHAPES == DEFAULT_SHAPES
    assert f"${CACHE_VARIABLE}" in PAGE
