"""`chpnet-train merge`: one report of a study whose seeds were trained on several machines."""

from __future__ import annotations

import shutil
from pathlib import Path

import click


@click.command("merge")
@click.argument(
    "reports", nargs=-1, type=click.Path(dir_okay=False, path_type=Path), metavar="NAME.json..."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the report.",
)
@click.option("--overwrite", is_flag=True, help="Replace a report that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(reports: tuple[Path, ...], out: Path, overwrite: bool, as_json: bool) -> None:
    """Make one report of the reports of `chpnet-train ablate` from several machines.

    Each NAME.json has the scores.csv of its study beside it and, for the curves, the folders of the
    runs with their validation.csv; no networks and no data are needed. Study, data, test slices and
    precision must agree, and every run must be in one of them only. The seeds are best taught by
    one teacher: train it on one machine, and give it to the others by `ablate --teacher`.
    """
    from chpnet_stream.whole_file import check_target, whole_file
    from chpnet_training.ablation_merge import merge, read_part
    from chpnet_training.ablation_report import write_report
    from chpnet_training.cmd_ablate import show_table
    from chpnet_training.csv_file import write_rows
    from chpnet_training.machine import describe_machine

    if len(reports) < 2:
        raise click.UsageError(f"expected two reports or more, found {len(reports)}")
    parts = [read_part(report) for report in reports]
    merged = merge(parts)
    name = merged.study.name
    for report in reports:
        if report.parent.resolve() == out.resolve():
            raise click.UsageError(f"--out {out}: expected another folder than that of {report}")
    out.mkdir(parents=True, exist_ok=True)
    check_target(out / f"{name}.json", overwrite=overwrite)
    picture = reports[0].parent / f"{name}-images.png"
    if picture.exists():
        with whole_file(out / picture.name) as part:
            shutil.copyfile(picture, part)
    write_rows(out / f"{name}-scores.csv", merged.rows)
    write_report(
        merged.study,
        merged.rows,
        out,
        out,
        "\n\n".join(
            [
                "Merged by `chpnet-train merge` of:",
                *(f"- {part.seeds_said}: {part.made_by or 'not recorded'}" for part in parts),
                f"The milliseconds of the networks: {describe_machine()}",
            ]
        ),
        runs=merged.runs,
        logs=merged.logs,
    )
    show_table(name, merged.rows, as_json=as_json)
