"""`chpnet-train inspect`: says and shows what is in a file of training data."""

from __future__ import annotations

from pathlib import Path

import click

from chpnet_stream.cli.formatter import show


@click.command("inspect")
@click.argument("data", type=click.Path(dir_okay=False, path_type=Path), metavar="DATA.h5")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a contact sheet (PNG) of images drawn from all sources.",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=96,
    show_default=True,
    help="Most images on the contact sheet.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses these images.")
@click.option("--verify", is_flag=True, help="Read everything and compare it with its checksums.")
@click.option("--overwrite", is_flag=True, help="Replace the picture if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(
    data: Path,
    picture: Path | None,
    images: int,
    seed: int,
    verify: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Print the manifest of training data that `prepare` wrote."""
    from chpnet_stream.errors import OutputExistsError
    from chpnet_training.bank import SourceBank
    from chpnet_training.cmd_prepare import rows_of
    from chpnet_training.contact_sheet import save_contact_sheet

    if picture is not None and picture.exists() and not overwrite:
        raise OutputExistsError(f"{picture} exists; give --overwrite to replace it")
    bank = SourceBank.load(data)
    if verify:
        bank.verify()
    if picture is not None:
        save_contact_sheet(bank, picture, images=images, seed=seed)
    if as_json:
        show({**bank.manifest, "checksum": bank.checksum}, title="", as_json=True)
    else:
        rows = rows_of(bank)
        if verify:
            rows["verified"] = True
        show(rows, title="Training data")
