"""Options that come as one argument."""

from dataclasses import dataclass

import click
from click.testing import CliRunner

from chpnet_stream.cli.bundle import bundled


@dataclass(frozen=True)
class Fruit:
    apples: int = 1
    pear: bool = False


FRUIT = [
    click.option("--apples", type=int, default=1, help="Apples."),
    click.option("--pear", is_flag=True),
]


@click.command()
@bundled(Fruit, "fruit", FRUIT)
@click.option("--other", default="x")
def command(fruit: Fruit, other: str) -> None:
    """Eat."""
    click.echo(f"{fruit} {other}")


def test_they_come_as_one_argument() -> None:
    run = CliRunner().invoke(command, ["--apples", "3", "--other", "y"])
    assert run.output == "Fruit(apples=3, pear=False) y\n"


def test_the_help_has_them_in_order() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    assert (
        text.index("Eat.") < text.index("--apples") < text.index("--pear") < text.index("--other")
    )
