"""A bank of magnitude training images in memory, built from folders and volumes.

`chpnet-train bank` builds one. Raw k-space is
never read here: what measures the networks must not train them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.bank import SourceBank
from chpnet_training.cleaning import (
    crop_to_head,
    darken_background,
    hash_distances,
    limit_size,
    perceptual_hash,
    reject_reason,
    trim_frame,
)
from chpnet_training.readers.folders import read_array, read_folder
from chpnet_training.readers.image import SkipCounter, SourceImage
from chpnet_training.readers.nifti import Orientation, read_nifti

logger = logging.getLogger(__name__)

__all__ = ["Source", "SourceBank", "build_bank", "collect", "standard_sources"]


@dataclass(frozen=True)
class Source:
    """One origin of images and how the bank treats it.

    Attributes:
        name: short name, in the manifest and in the bank's origins.
        licence: licence and credit, as the source states them.
        images: the images, read when iterated.
        weight: how often each image is drawn relative to the others.
        split: "train" or "val" for all of it; None splits by subject.
        minimum_side: images with a shorter side, as read or after the crop, are dropped (after
            the crop two thirds of it are enough).
        pictures: single pictures and not slices of a volume: frames are trimmed off and
            near-duplicates dropped (neighbouring slices of a volume must stay).
        skipped: filled by the reader with what it left out.
    """

    name: str
    licence: str
    images: Iterable[SourceImage]
    weight: float = 1.0
    split: str | None = None
    minimum_side: int = 160
    pictures: bool = False
    skipped: SkipCounter = field(default_factory=SkipCounter)


def collect(
    sources: Iterable[Source],
    *,
    seed: int = 0,
    validation_fraction: float = 0.08,
    maximum_side: int = 320,
    duplicate_distance: int = 16,
    related_distance: int = 44,
) -> SourceBank:
    """Builds a bank: cleans, drops near-duplicates and splits by subject.

    Images whose 256-bit difference hashes lie within ``duplicate_distance`` of one kept before are
    dropped. Where a source names no subjects (one file, one subject), images within
    ``related_distance`` of each other are tied into one subject for the split: slices of one
    patient look alike, and this keeps most of them on one side.

    Args:
        sources: what is read, in this order.
        seed: decides which subjects are held out.
        validation_fraction: share of the subjects of the split sources that go to "val".
        maximum_side: larger images are reduced to this many pixels on their longer side.
        duplicate_distance: bits that near-duplicates may differ in.
        related_distance: bits that images of one tied subject may differ in.

    Raises:
        InputError: if nothing is left.
    """
    images: list[np.ndarray] = []
    rows: list[tuple[str, str, float, str]] = []
    report: dict[str, Any] = {}
    for source in sources:
        drops: Counter[str] = Counter()
        kept: list[np.ndarray] = []
        items: list[SourceImage] = []
        hashes = np.zeros((0, 256), dtype=np.float32)
        for item in source.images:
            clean = _prepare(item.magnitude, source, maximum_side)
            if isinstance(clean, str):
                drops[clean] += 1
                continue
            if source.pictures:
                code = perceptual_hash(clean)
                mirrored = perceptual_hash(clean[:, ::-1])
                nearest = min(
                    hash_distances(code, hashes).min(initial=256),
                    hash_distances(mirrored, hashes).min(initial=256),
                )
                if nearest <= duplicate_distance:
                    drops["near-duplicate"] += 1
                    continue
                hashes = np.concatenate([hashes, code[None]])
            kept.append(np.round(clean * 65535).astype(np.uint16))
            items.append(item)
        subjects = [item.subject for item in items]
        if source.pictures:
            subjects = [subjects[root] for root in _tie(hashes, related_distance)]
        sides = _split(subjects, source.split, validation_fraction, seed)
        images += kept
        for item, subject, side in zip(items, subjects, sides, strict=True):
            origin = f"{source.name}/{item.origin}"
            rows.append((f"{source.name}/{subject}", origin, source.weight, side))
        report[source.name] = {
            "licence": source.licence,
            "kept": len(kept),
            "train": sides.count("train"),
            "val": sides.count("val"),
            "subjects": len(set(subjects)),
            "weight": source.weight,
            "dropped": dict(drops),
            "skipped by the reader": dict(source.skipped.counts),
        }
        logger.info("%s: kept %d, dropped %s", source.name, len(kept), dict(drops))
    if not images:
        raise InputError(f"no image is left of {len(report)} sources; see the rules and the paths.")
    manifest = {
        "seed": seed,
        "validation_fraction": validation_fraction,
        "maximum_side": maximum_side,
        "duplicate_distance": duplicate_distance,
        "related_distance": related_distance,
        "images": len(images),
        "sources": report,
    }
    subjects_, origins, weights, splits = zip(*rows, strict=True)
    return SourceBank(
        np.concatenate([image.ravel() for image in images]),
        np.array([image.shape for image in images], dtype=np.int32),
        np.array(weights, dtype=np.float64),
        np.array(splits),
        np.array(subjects_),
        np.array(origins),
        manifest,
    )


def _prepare(image: np.ndarray, source: Source, maximum_side: int) -> np.ndarray | str:
    """Returns the cleaned image `y x`, or the reason why it is dropped."""
    reason = reject_reason(image, minimum_side=source.minimum_side)
    if reason is not None:
        return reason
    framed = trim_frame(image) if source.pictures else image
    clean = limit_size(crop_to_head(darken_background(framed)), maximum_side)
    return "head too small" if 3 * min(clean.shape) < 2 * source.minimum_side else clean


def _tie(hashes: np.ndarray, distance: float) -> list[int]:
    """Returns for each hash `n bits` the index of its first relative (single linkage)."""
    from scipy.sparse.csgraph import connected_components

    near = (hashes.shape[1] - hashes @ hashes.T) / 2 <= distance
    _, labels = connected_components(near, directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(int(label), index) for index, label in enumerate(labels)]


def _split(subjects: list[str], side: str | None, fraction: float, seed: int) -> list[str]:
    """Returns "train" or "val" for each image, whole subjects at a time."""
    if side is not None:
        return [side] * len(subjects)
    names = sorted(set(subjects))
    held = np.random.default_rng(seed).permutation(len(names))[: round(fraction * len(names))]
    held_out = {names[index] for index in held}
    return ["val" if subject in held_out else "train" for subject in subjects]


def standard_sources(data_root: Path) -> list[Source]:
    """Returns the sources found below the shared ``data`` folder: magnitude images only.

    Colin27 (skull on, one person, low noise) is the most like a raw scan and weighs more; the
    152-person average is smooth and weighs less. The brain tumour images name no patients.
    """
    tumours = data_root / "brain-tumor-mri" / "Training"
    volumes = data_root / "mr-volumes"
    credit = "CC0 (M. Nickparvar, Kaggle); the figshare part by Jun Cheng (1512427) is CC BY 4.0"
    sources: list[Source] = []
    for folder in sorted(path for path in tumours.glob("*") if path.is_dir()):
        counter = SkipCounter()
        images = read_folder(folder, skipped=counter)
        name = f"brain-tumor-mri/{folder.name}"
        sources.append(Source(name, credit, images, pictures=True, skipped=counter))
    directions: tuple[Orientation, ...] = ("axial", "coronal", "sagittal")
    for name, licence, weight, step, minimum in (
        ("ch2.nii.gz", "Colin27 T1, Debian mricron-data, BSD-3-Clause", 2.0, 1, 120),
        (
            "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
            "ICBM 152 2009a, free to use, copy and distribute; nilearn BSD-3-Clause",
            0.5,
            3,
            120,
        ),
    ):
        if (volumes / name).exists():
            counter = SkipCounter()
            read = partial(read_nifti, volumes / name, step=step, minimum_filled=0.2)
            cut = read(orientations=directions, skipped=counter)
            sources.append(Source(name, licence, cut, weight, "train", minimum, skipped=counter))
    if (volumes / "S0_10slices.nii.gz").exists():
        cut = read_nifti(volumes / "S0_10slices.nii.gz")
        sources.append(Source("S0_10slices", "dipy, BSD-3-Clause", cut, 1.0, "train", 120))
    if (volumes / "t1_coronal_slice.npy").exists():
        slice_ = [read_array(volumes / "t1_coronal_slice.npy")]
        sources.append(Source("t1_coronal_slice", "dipy, BSD-3-Clause", slice_, 1.0, "val"))
    return sources


def build_bank(data_root: Path, *, seed: int = 0, maximum_side: int = 320) -> SourceBank:
    """Builds the bank of the magnitude images below the shared ``data`` folder.

    Raises:
        InputError: if none of the known sources is there.
    """
    sources = standard_sources(data_root)
    if not sources:
        raise InputError(
            f"{data_root}: found none of brain-tumor-mri/Training and mr-volumes; "
            "give the folder that holds them."
        )
    return collect(sources, seed=seed, maximum_side=maximum_side)
