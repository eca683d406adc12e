"""`chpnet-stream bench`: how fast this machine is, measured as a scanner would see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.benchmark.plan import (
    COILS,
    MATRICES,
    QUICK_COILS,
    QUICK_MATRICES,
    QUICK_SLICES,
    RATE,
    SLICES,
)
from chpnet_stream.cli.progress import slices_bar
from chpnet_stream.schema import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from chpnet_stream.benchmark.estimate import Step
    from chpnet_stream.benchmark.run import Results

ENGINES = tuple(name for name in SETTINGS["engine"].choices if name != "auto")
SHOWN = (
    *("coils", "matrix", "engine", "p50_ms", "p95_ms", "p99_ms", "max_ms", "cold_ms", "start_s"),
    *("late", "fallbacks", "per_second", "peak_mb", "rest_percent"),
)


@click.command("bench")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME[:PRECISION]",
    help=f"Engines: {', '.join(ENGINES)}, auto.  [default: all that can be used here]",
)
@click.option(
    "--matrix",
    "matrices",
    type=click.IntRange(32, 1024),
    multiple=True,
    metavar="N",
    help=f"Lines and columns.  [default: {', '.join(map(str, MATRICES))}]",
)
@click.option(
    "--coils",
    type=click.IntRange(1, 128),
    multiple=True,
    metavar="N",
    help=f"Coils.  [default: {', '.join(map(str, COILS))}]",
)
@click.option(
    "--slices",
    type=click.IntRange(1),
    metavar="N",
    help=f"Slices of each size and engine, behind a first one.  [default: {SLICES}]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0),
    default=RATE,
    show_default=True,
    metavar="PER_SECOND",
    help="Slices a second at which they are sent. 0: each when the image before has come.",
)
@click.option(
    "--rate-by-size",
    is_flag=True,
    help="Instead: what two cores hold in fp32, by pixels and lines, 2 to 12 a second.",
)
@click.option(
    "--deadline-ms",
    type=click.FloatRange(0),
    default=0.0,
    metavar="MS",
    help="Count images that come later than this.  [default: twice the time of a slice]",
)
@click.option(
    "--set-deadline",
    is_flag=True,
    help="Tell the gadget that deadline: behind it, the conventional image goes out.",
)
@click.option(
    "--maps",
    type=click.Choice(["kept", "new"]),
    default="kept",
    show_default=True,
    help="kept: positions come again. new: every slice needs coil maps of its own.",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]"
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    default=SETTINGS["model"].default,
    show_default=True,
    help="An installed model, or a model card.",
)
@click.option("--no-references", is_flag=True, help="Leave out what the ratios are taken to.")
@click.option(
    "--quick",
    is_flag=True,
    help=f"A few sizes, {QUICK_SLICES} slices each, engine auto: some minutes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--out",
    "outs",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Write the tables (FILE.md), everything (FILE.json) or a picture of the latencies "
    "(FILE.png); repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep each engine and size here as soon as it is measured, and go on from what is there.",
)
def command(
    engines: tuple[str, ...],
    matrices: tuple[int, ...],
    coils: tuple[int, ...],
    slices: int | None,
    rate: float,
    rate_by_size: bool,
    deadline_ms: float,
    set_deadline: bool,
    maps: str,
    threads: int | None,
    model: str,
    no_references: bool,
    quick: bool,
    as_json: bool,
    outs: tuple[Path, ...],
    overwrite: bool,
    resume: Path | None,
) -> int:
    """Measure this machine: latency from a slice's last readout to its image.

    Simulated slices go through a gadget, a process of its own as Gadgetron starts it, at the pace
    of a scan. Percentiles, the first slice (cold), slices a second without a pause, images later
    than the deadline, memory, and milliseconds of every stage are told for every engine and size;
    ratios are taken in the same run to the paper-size student in PyTorch, ONNX Runtime, CG-SENSE,
    BART (where it is installed), and the FFT gadget that comes with the gadgetron package.

    The whole table takes hours: begin with --quick. How long is told before the first slice. With
    --resume FILE a run that was ended goes on where it was when the same command is given again.
    Other work on the machine makes times longer. If a gadget fails, or its images are not by the
    engine that was asked for, the other sizes and engines are measured, and the exit code is 1.
    """
    from typing import cast

    from chpnet_stream.benchmark.kept import Kept
    from chpnet_stream.benchmark.plan import Case, Maps, Plan
    from chpnet_stream.benchmark.run import run_plan

    _check_engines(engines)
    for out in outs:
        _check_target(out, overwrite)
    default_matrices, default_coils = (QUICK_MATRICES, QUICK_COILS) if quick else (MATRICES, COILS)
    cases = [Case(m, c) for m in matrices or default_matrices for c in coils or default_coils]
    plan = Plan(
        engines=engines or (("auto",) if quick else ENGINES),
        cases=tuple(cases),
        slices=slices or (QUICK_SLICES if quick else SLICES),
        rate=None if rate_by_size else rate,
        deadline_ms=deadline_ms,
        set_deadline=set_deadline,
        maps=cast(Maps, maps),
        threads=threads or 0,
        model=model,
        references=not no_references,
    )
    kept = Kept(plan, resume)
    with _bar() as bar:
        results = run_plan(plan, _progress(bar), kept)
    _show(results, as_json)
    for out in outs:
        _write(results, out)
    for what, why in results.failed.items():
        click.echo(f"not measured: {what}: {why}", err=True)
    return 1 if results.failed else 0


def _bar() -> Any:
    """The bar of all commands, but for the time left, which the plan knows: sizes differ in it."""
    from rich.progress import TextColumn, TimeRemainingColumn

    bar = slices_bar()
    columns = [c for c in bar.columns if not isinstance(c, TimeRemainingColumn)]
    bar.columns = (*columns, TextColumn("{task.fields[left]}"))
    return bar


def _progress(bar: Any) -> Callable[[Step], None]:
    """What is done with each step: the estimate first, then the bar; a log where there is none."""
    from chpnet_stream.benchmark.estimate import in_words

    task = bar.add_task("loading", total=None, left="")
    before = ""

    def progress(step: Step) -> None:
        nonlocal before
        left = in_words(step.left_s)
        if not before:
            click.echo(f"{left} for {step.total} images", err=True)
        elif step.what != before and not bar.console.is_terminal:  # a log of some hours
            click.echo(f"{step.what} ({step.done} of {step.total} images, {left} left)", err=True)
        before = step.what
        bar.update(
            task,
            description=step.what,
            completed=step.done,
            total=step.total,
            left=f"{left} left",
        )

    return progress


def _check_engines(engines: tuple[str, ...]) -> None:
    """Refuse names that are none, before anything is simulated.

    Raises:
        ConfigurationError: As said.
    """
    from chpnet_stream.errors import ConfigurationError
    from chpnet_stream.near import hint

    for name in engines:
        kind, _, precision = name.partition(":")
        if kind not in ("auto", *ENGINES):
            raise ConfigurationError(f"no engine '{kind}'; {hint(kind, ('auto', *ENGINES))}")
        known = SETTINGS["precision"].choices
        if precision and precision not in known:
            raise ConfigurationError(f"no precision '{precision}'; {hint(precision, known)}")


def _check_target(out: Path, overwrite: bool) -> None:
    """Refuse a file that can't be written, before hours of measuring.

    Raises:
        ConfigurationError: Another ending than .md, .json and .png, or no matplotlib for the last.
        OutputExistsError: It is there.
        OutputError: Its folder is not.
    """
    from chpnet_stream.errors import ConfigurationError
    from chpnet_stream.pictures import require_matplotlib
    from chpnet_stream.whole_file import check_target

    if out.suffix not in (".md", ".json", ".png"):
        raise ConfigurationError(
            f"--out {out.name}: expected a file that ends in .md (tables), .json (everything) or "
            f".png (picture), found '{out.suffix or 'no ending'}'"
        )
    if out.suffix == ".png":
        require_matplotlib(f"--out {out.name}")
    check_target(out, overwrite=overwrite)


def _show(results: Results, as_json: bool) -> None:
    from chpnet_stream.benchmark.ratios import ratios
    from chpnet_stream.benchmark.tables import as_dict
    from chpnet_stream.cli.formatter import show, show_list

    if as_json:
        show(as_dict(results), title="", as_json=True)
        return
    machine: dict[str, Any] = as_dict(results)["machine"]
    show(machine, title="Machine")
    show_list(results.streamed, title="Last readout to image", columns=SHOWN)
    stages = [
        {"coils": r["coils"], "matrix": r["matrix"], "engine": r["engine"]}
        | {f"{name}_ms": ms for name, ms in r["stages_ms"].items()}
        for r in results.streamed
    ]
    show_list(stages, title="Stages (mean)")
    if results.references:
        compared = ratios(results.streamed, results.references)
        show_list(compared, title="How many times as fast as others")
        columns = ("coils", "matrix", "what", "part", "ms", "faster_than_paper_size")
        show_list(results.references, title="The same slice by others", columns=columns)
    if results.unusable:
        show(results.unusable, title="Engines that can't be used here")


def _write(results: Results, out: Path) -> None:
    from chpnet_stream.benchmark.tables import as_dict, as_markdown
    from chpnet_stream.json_text import json_text
    from chpnet_stream.whole_file import write_whole

    if out.suffix == ".png":
        from chpnet_stream.benchmark.plot import save_latency

        if results.streamed:
            save_latency(out, results)
        return
    words = " ".join(["chpnet-stream bench", *_words(results)])
    text = as_markdown(results, words) if out.suffix == ".md" else json_text(as_dict(results), 2)
    write_whole(out, text.rstrip() + "\n")


def _words(results: Results) -> list[str]:
    """The options that make the same table again; a model's card without its folder."""
    from chpnet_stream.benchmark.plan import Plan

    plan = results.plan
    words = [f"--engine {name}" for name in plan.engines if name not in results.unusable]
    words += [f"--matrix {m}" for m in dict.fromkeys(c.matrix for c in plan.cases)]
    words += [f"--coils {c}" for c in dict.fromkeys(c.coils for c in plan.cases)]
    rate = "--rate-by-size" if plan.rate is None else f"--rate {plan.rate:g}"
    words += [f"--slices {plan.slices}", rate, f"--maps {plan.maps}"]
    words += [f"--deadline-ms {plan.deadline_ms:g}"] if plan.deadline_ms else []
    words += ["--set-deadline"] if plan.set_deadline else []
    words += [f"--threads {plan.threads}"] if plan.threads else []
    words += [f"--model {Path(plan.model).name}"] if plan.model != Plan.model else []
    words += ["--no-references"] if not plan.references else []
    return words
