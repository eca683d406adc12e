"""`chpnet-train tune`: how far may a model trust itself?"""

from __future__ import annotations

from pathlib import Path

import click

from chpnet_stream.cli.formatter import show_list


@click.command("tune")
@click.argument("model", metavar="NAME|FILE")
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(model: str, image: Path, as_json: bool) -> None:
    """Score the noise factors of MODEL on a complex IMAGE (.cfl or .npy).

    The image must be neither trained on nor tested on. Scans of it are simulated with eight coils
    at several accelerations and noise levels; the table has the mean PSNR for every multiple of the
    true noise level that the network is told. `chpnet-train export --noise-factor` takes the best.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from chpnet_stream.engines.choice import make_engine
    from chpnet_training.kspace_model import find_kspace_model
    from chpnet_training.tuning import read_complex_image, tune

    engine = make_engine("pytorch", find_kspace_model(model))
    picture = read_complex_image(image)
    with Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("simulated scans", total=None)
        scores = tune(
            engine,
            picture,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    best = max(scores, key=lambda score: score.psnr)
    show_list(
        [
            {"noise_factor": s.factor, "psnr_db": s.psnr, "best": "best" if s is best else ""}
            for s in scores
        ],
        title=f"{engine.card.name} on {image.name}",
        as_json=as_json,
    )
