"""Which subjects are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

SPLITS = ("train", "val", "test")


def split_subjects(
    subjects: Sequence[str],
    fixed: Mapping[str, str],
    *,
    validation: float,
    test: float,
    seed: int,
    names: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Returns the side of every subject: "train", "val" or "test".

    Subjects are put in the order of a hash of seed and name, so that the order of the files plays
    no part and most subjects keep their side when others are added. A share above zero gets at
    least one subject (unless one is fixed there), and one is always left to train on.

    Args:
        subjects: names, repeated or not.
        fixed: the side of subjects that have one by their source.
        validation: share of the others for "val".
        test: share of the others for "test".
        seed: chooses.
        names: what is hashed of subjects that are not to be put in order by all of their name.
    """
    names = names or {}

    def place(subject: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}:{names.get(subject, subject)}".encode()).digest(), subject

    free = sorted(set(subjects) - set(fixed), key=place)
    sides = dict(fixed)
    taken = 0
    for side, share in (("val", validation), ("test", test)):
        least = int(share > 0 and side not in fixed.values())
        count = min(max(round(share * len(free)), least), max(len(free) - taken - 1, 0))
        sides |= dict.fromkeys(free[taken : taken + count], side)
        taken += count
    return sides | dict.fromkeys(free[taken:], "train")
