"""`chpnet-train prepare`: makes one file of training data of what people have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from chpnet_stream.cli.formatter import show
from chpnet_training.readers.detect import KINDS

PLAIN_EVERY = 20.0
"""Seconds between two lines of progress where there is no terminal."""


@click.command("prepare")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file to write (.h5)."
)
@click.option("--kind", type=click.Choice(KINDS), help="What all files are; by default, look.")
@click.option(
    "--phantoms",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Simulated heads to add, five slices each; they need no data at all.",
)
@click.option(
    "--licence", default="not stated", show_default=True, help="Licence and credit of the data."
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 0.9),
    default=0.08,
    show_default=True,
    help="Share of the subjects held out for validation.",
)
@click.option(
    "--test",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    show_default=True,
    help="Share of the subjects held out for a test.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses who is held out.")
@click.option(
    "--subject-from",
    default="file",
    show_default=True,
    metavar="file|parent|REGEX",
    help="Whom an image shows: its file's name (look-alikes are tied together), its folder's "
    "name, or what a regular expression finds in its path.",
)
@click.option(
    "--ignore-identifiers",
    is_flag=True,
    help="Take --subject-from for DICOM and raw data, too: for data that were all anonymised to "
    "the same identifier.",
)
@click.option(
    "--maximum-side",
    type=click.IntRange(64),
    default=320,
    show_default=True,
    help="Larger images are reduced to this many pixels on their longer side.",
)
@click.option(
    "--minimum-side",
    type=click.IntRange(16),
    help="Images with a shorter side are dropped.  [default: 160, of volumes 120]",
)
@click.option(
    "--step",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Take every so many-th slice of NIfTI volumes and DICOM series.",
)
@click.option(
    "--kspace/--no-kspace",
    default=True,
    show_default=True,
    help="Keep the k-space of raw data; it takes 10 to 100 times the space of the images.",
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these files alone.")
@click.option("--skip-unreadable", is_flag=True, help="Go on without files that can't be read.")
@click.option(
    "--salt", help="Hashed with patients' identifiers; by default random, and kept nowhere."
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a contact sheet (PNG).",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(
    paths: tuple[Path, ...],
    out: Path,
    phantoms: int,
    picture: Path | None,
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Clean the images of files and folders, split them by subject, and write one file.

    PATHs are files, or folders with all below them, of fastMRI HDF5, fully sampled ISMRMRD scans,
    NIfTI, DICOM, PNG and JPEG. Raw data keep their k-space beside the image.

    Keep what the networks are measured with out of it.
    """
    from chpnet_stream.errors import ConfigurationError, OutputExistsError
    from chpnet_training.collect import CollectOptions, collect
    from chpnet_training.contact_sheet import save_contact_sheet
    from chpnet_training.sources import ReadOptions, find_sources, phantom_source

    if not paths and phantoms == 0:
        raise ConfigurationError("found neither a PATH nor --phantoms, expected one of them")
    if choices["validation"] + choices["test"] > 0.9:
        raise ConfigurationError(
            f"--validation {choices['validation']} and --test {choices['test']} leave too little "
            "to train on; expected at most 0.9 together"
        )
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists; give --overwrite to replace it")
    with _progress() as progress:
        reading = ReadOptions(
            kind=choices["kind"],
            exclude=choices["exclude"],
            licence=choices["licence"],
            subject_from=choices["subject_from"],
            identifiers=not choices["ignore_identifiers"],
            minimum_side=choices["minimum_side"],
            step=choices["step"],
            kspace=choices["kspace"],
            skip_unreadable=choices["skip_unreadable"],
            tick=progress.tick,
        )
        sources, ignored, files = find_sources(paths, reading)
        progress.begin(files)
        if phantoms:
            sources.append(phantom_source(phantoms))
        bank = collect(
            sources,
            out,
            CollectOptions(
                seed=choices["seed"],
                validation=choices["validation"],
                test=choices["test"],
                maximum_side=choices["maximum_side"],
            ),
            overwrite=overwrite,
            salt=choices["salt"],
            ignored=ignored,
            report=progress.report,
        )
    if picture is not None:
        save_contact_sheet(bank, picture)
    if as_json:
        show(bank.manifest, title="", as_json=True)
    else:
        show(rows_of(bank), title="Training data")


def rows_of(bank: Any) -> dict[str, Any]:
    """What people want to know of a file of training data, for `show`."""
    manifest = bank.manifest
    rows: dict[str, Any] = {
        "file": str(bank.path),
        "size_mb": bank.path.stat().st_size / 1e6,
        "images": manifest["images"],
        "with k-space": manifest["with k-space"],
    }
    for side, counts in manifest["splits"].items():
        rows[side] = f"{counts['images']} images of {counts['subjects']} subjects"
    for name in ("dropped", "files left alone"):
        rows[name] = [f"{count} {why}" for why, count in manifest[name].items()]
    for name, facts in manifest["sources"].items():
        dropped = sum(facts["dropped"].values()) + sum(facts["skipped by the reader"].values())
        rows[f"source {name}"] = (
            f"{facts['kept']} kept, {dropped} dropped; {facts['kind']}; {facts['licence']}"
        )
    rows["checksum"] = bank.checksum
    return rows


class _Progress:
    """A bar over the files on a terminal, a line now and then elsewhere."""

    def __init__(self, bar: Any, plain: bool) -> None:
        self.bar, self.plain = bar, plain
        self.task = bar.add_task("looking at the files", total=None)
        self.files = self.done = self.kept = self.dropped = 0
        self.name = ""
        self.before = (0, 0)
        self.told = time.monotonic()

    def begin(self, files: int) -> None:
        """Reading begins."""
        self.files = files
        self.bar.update(self.task, total=files or None, description="reading")
        if self.plain and files:
            click.echo(f"{files} files to read", err=True)

    def tick(self, path: Path) -> None:
        """A file is done."""
        self.done += 1
        self.bar.update(self.task, completed=self.done)

    def report(self, name: str, kept: int, dropped: int) -> None:
        """An image is done."""
        if name != self.name:
            self.before = (self.kept, self.dropped)
            self.name = name
        self.kept, self.dropped = self.before[0] + kept, self.before[1] + dropped
        text = f"{self.kept} images kept, {self.dropped} dropped"
        self.bar.update(self.task, description=f"{name}: {text}")
        if self.plain and time.monotonic() - self.told > PLAIN_EVERY:
            self.told = time.monotonic()
            click.echo(f"{self.done} of {self.files} files, {text}", err=True)


@contextmanager
def _progress() -> Iterator[_Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    terminal = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    plain = not terminal.is_terminal
    with Progress(*columns, console=terminal, transient=True, disable=plain) as bar:
        yield _Progress(bar, plain)
