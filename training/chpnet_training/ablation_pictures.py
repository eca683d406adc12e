"""The pictures of an ablation: one test slice by every arm, and what was corrected."""

from __future__ import annotations

from pathlib import Path

import torch

from chpnet_training.ablation import DONE, runs_of
from chpnet_training.study import Study
from chpnet_training.trainer import CHECKPOINT


def draw_images(study: Study, data: Path, folder: Path, path: Path, slice_number: int = 0) -> bool:
    """Show one slice of the last condition by all arms of the first seed; whether there were any.

    Args:
        study: The study.
        data: File of training images.
        folder: Of the study.
        path: PNG to write.
        slice_number: Which of the test slices.
    """
    from chpnet_stream.pictures import Panel, save_comparison
    from chpnet_training.losses import magnitude
    from chpnet_training.runs import evaluated_network
    from chpnet_training.unseen import unseen_batches
    from chpnet_training.validation import score_images

    condition = study.conditions[-1]
    recipe = study.condition_recipe(condition)
    size = recipe.data.batch
    few = {"slices": (slice_number // size + 1) * size}
    shown_only = {"validation": recipe.validation.model_copy(update=few)}
    batch = unseen_batches(recipe.model_copy(update=shown_only), data)[slice_number // size]
    at = slice_number % size
    truth = magnitude(batch.target)[at, 0].numpy()
    images = {"start": batch.start}
    first = {run.arm: run for run in runs_of(study) if run.seed == study.seeds[0]}
    for arm in ("unet", *study.arms, "teacher"):
        run = first.get(arm)
        if run is None or not (folder / run.name / DONE).exists():
            continue
        network = evaluated_network(folder / run.name / CHECKPOINT, run.network)[0]
        with torch.no_grad():
            images[arm] = network(batch.start, batch.adjoint, batch.normal, batch.noise)
    panels = []
    for arm, image in images.items():
        scores = score_images(image, batch.target)
        shown = magnitude(image)[at, 0].numpy()
        caption = f"{float(scores['psnr'][at]):.2f} dB   SSIM {float(scores['ssim'][at]):.3f}"
        panels.append(Panel(arm, caption, shown, shown - truth))
    panels.append(Panel("truth", "", truth))
    save_comparison(path, panels, f"{study.name}: {condition.name}, test slice {slice_number}")
    return len(images) > 1
