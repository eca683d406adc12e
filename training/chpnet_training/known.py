"""Published data that is recognised by its name: licences, and how much of it to take.

An average of many people is smooth and weighs less; one person measured often and with skull is
the most like a raw scan and weighs more. Volumes of one subject would unbalance whatever split they
fell into, so their side is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path


@dataclass(frozen=True)
class Known:
    """What is known of files whose path ends as ``pattern`` says.

    Attributes:
        pattern: for `fnmatch`, of the whole path with slashes.
        name: of the source, in the manifest and in origins.
        licence: licence and credit.
        weight: how often each image is drawn relative to the others.
        split: "train" or "val" for all of it; None splits by subject.
        step: every how manieth slice of a volume.
        minimum_filled: least share of a slice that must have signal.
    """

    pattern: str
    name: str
    licence: str
    weight: float = 1.0
    split: str | None = None
    step: int = 1
    minimum_filled: float = 0.1


KNOWN = (
    Known(
        "*/brain-tumor-mri/Training/*",
        "brain-tumor-mri",
        "CC0 (M. Nickparvar, Kaggle); the figshare part by Jun Cheng (1512427) is CC BY 4.0",
    ),
    Known(
        "*/ch2.nii.gz",
        "ch2.nii.gz",
        "Colin27 T1, Debian mricron-data, BSD-3-Clause",
        weight=2.0,
        split="train",
        minimum_filled=0.2,
    ),
    Known(
        "*/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "ICBM 152 2009a, free to use, copy and distribute; nilearn BSD-3-Clause",
        weight=0.5,
        split="train",
        step=3,
        minimum_filled=0.2,
    ),
    Known("*/S0_10slices.nii.gz", "S0_10slices", "dipy, BSD-3-Clause", split="train"),
    Known("*/t1_coronal_slice.npy", "t1_coronal_slice", "dipy, BSD-3-Clause", split="val"),
)


def recognise(path: Path) -> Known | None:
    """Returns what is known of a file by its absolute path, None where nothing is."""
    text = path.resolve().as_posix()
    return next((known for known in KNOWN if fnmatch(text, known.pattern)), None)
