"""`chpnet-train bank`: collects training images into one file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show

if TYPE_CHECKING:
    from chpnet_training.bank import SourceBank
    from chpnet_training.sources import Source

HELD_OUT = 0.08
LICENCE = "simulated by chpnet-stream, MIT"


@click.command("bank")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with brain-tumor-mri/Training and mr-volumes.",
)
@click.option(
    "--phantoms",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Simulated heads to add, five slices each; they need no data at all.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Bank (.npz)."
)
@click.option(
    "--maximum-side",
    type=click.IntRange(64),
    default=320,
    show_default=True,
    help="Larger images are reduced to this many pixels on their longer side.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses what is held out.")
@click.option("--overwrite", is_flag=True, help="Replace the bank if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(
    data: Path | None,
    phantoms: int,
    out: Path,
    maximum_side: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Clean magnitude images, split them by subject, and write them as one bank.

    Raw k-space is never read here: what measures the networks must not train them.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from chpnet_stream.errors import OutputExistsError
    from chpnet_training.sources import collect

    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists; give --overwrite to replace it")
    sources = _sources(data, phantoms)
    terminal = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:.0f} images"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as bar:
        task = bar.add_task("reading", total=None)

        def tick(name: str) -> None:
            bar.update(task, description=name, advance=1)

        counted = [
            dataclasses.replace(source, images=_counted(source.images, source.name, tick))
            for source in sources
        ]
        bank = collect(counted, seed=seed, maximum_side=maximum_side)
        bar.update(task, description="writing")
        out.parent.mkdir(parents=True, exist_ok=True)
        bank.save(out)
    if as_json:
        show(bank.manifest, title="", as_json=True)
    else:
        show(_rows(bank, out), title="Bank of training images")


def _sources(data: Path | None, phantoms: int) -> list[Source]:
    from chpnet_stream.errors import ConfigurationError, InputError
    from chpnet_training.readers.phantoms import read_phantoms
    from chpnet_training.sources import Source, standard_sources

    if data is None and phantoms == 0:
        raise ConfigurationError("found neither --data nor --phantoms, expected one of them")
    sources = []
    if data is not None:
        sources = standard_sources(data)
        if not sources:
            raise InputError(
                f"{data}: found none of brain-tumor-mri/Training and mr-volumes; "
                "give the folder that holds them"
            )
    if phantoms == 1:
        raise ConfigurationError("found --phantoms 1, expected at least 2: one is held out")
    if phantoms:
        held_out = max(1, round(HELD_OUT * phantoms))
        train, val = range(held_out, phantoms), range(held_out)
        for name, side, heads in (("phantoms", "train", train), ("phantoms held out", "val", val)):
            images = read_phantoms(heads)
            sources.append(Source(name, LICENCE, images, split=side, minimum_side=120))
    return sources


def _counted(images: Iterable[Any], name: str, tick: Callable[[str], None]) -> Iterator[Any]:
    for image in images:
        tick(name)
        yield image


def _rows(bank: SourceBank, out: Path) -> dict[str, Any]:
    rows: dict[str, Any] = {
        "file": str(out),
        "size_mb": out.stat().st_size / 1e6,
        "training images": len(bank.indices("train")),
        "validation images": len(bank.indices("val")),
    }
    for name, facts in bank.manifest["sources"].items():
        dropped = sum(facts["dropped"].values())
        rows[f"source {name}"] = f"{facts['kept']} kept, {dropped} dropped; {facts['licence']}"
    return rows
