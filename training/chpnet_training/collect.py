"""Sources in, one file of training data out: cleaned, without duplicates, split by subject."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream import __version__
from chpnet_stream.errors import InputError
from chpnet_training import duplicates
from chpnet_training.bank import SourceBank
from chpnet_training.cleaning import (
    crop_to_head,
    darken_background,
    limit_size,
    reject_reason,
    trim_frame,
)
from chpnet_training.duplicates import DuplicateFinder, tie
from chpnet_training.readers.image import SourceImage
from chpnet_training.sources import Source
from chpnet_training.splits import SPLITS, split_subjects
from chpnet_training.store import BankWriter, digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectOptions:
    """How images become training data.

    Attributes:
        seed: decides which subjects are held out.
        validation: share of the subjects that go to "val".
        test: share of the subjects that go to "test".
        maximum_side: larger images are reduced to this many pixels on their longer side.
    """

    seed: int = 0
    validation: float = 0.08
    test: float = 0.0
    maximum_side: int = 320


@dataclass
class _Rows:
    """What is noted of each image that is kept."""

    source: list[int] = field(default_factory=list)
    subject: list[str] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    private: list[bool] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)
    pixel: list[tuple[float, float]] = field(default_factory=list)
    raw: list[bool] = field(default_factory=list)
    short: dict[str, str] = field(default_factory=dict)
    """Names without that of a folder, which people may rename, by subject."""
    digests: set[tuple[str, bytes]] = field(default_factory=set)
    """Subjects and what their images hold: a file that lies there twice is no other slice."""


def collect(
    sources: Sequence[Source],
    out: Path,
    options: CollectOptions | None = None,
    *,
    overwrite: bool = False,
    salt: str | None = None,
    ignored: Mapping[str, int] | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> SourceBank:
    """Writes a file of training data: cleans, drops duplicates and splits by subject.

    A person's name is the same person in all sources. An image that is nearly one of another
    subject or source kept before is dropped (`duplicates`); so is one that is, to the bit, one of
    the same subject. Where pictures name no subjects (one file, one subject), those that look alike
    are tied into one subject for the split: this keeps most slices of one patient on one side.

    Args:
        sources: what is read, in this order.
        out: the file.
        options: see there.
        overwrite: replace an existing file.
        salt: hashed with the identifiers of patients; by default random, and kept nowhere.
        ignored: files that were left alone, for the manifest.
        report: called after each image with the source's name and the images kept and dropped.

    Raises:
        InputError: if nothing is left, or there is one subject and some are to be held out.
        OutputError: if the file can't be written.
    """
    options = options or CollectOptions()
    rows = _Rows()
    finder = DuplicateFinder()
    dropped: list[Counter[str]] = [Counter() for _ in sources]
    with BankWriter(out, options.maximum_side, overwrite=overwrite) as writer:
        for number, source in enumerate(sources):
            kept = 0
            for item in source.images:
                reason = _take(item, number, source, options, finder, writer, rows)
                if reason is None:
                    kept += 1
                else:
                    dropped[number][reason] += 1
                if report is not None:
                    report(source.name, kept, dropped[number].total())
            logger.info("%s: kept %d, dropped %s", source.name, kept, dict(dropped[number]))
        if not rows.source:
            counted = sum(dropped, Counter[str]())
            raise InputError(
                f"no image is left of {len(sources)} sources (dropped: "
                f"{', '.join(f'{n} {why}' for why, n in counted.items()) or 'none'}); "
                "see docs/training-data.md for the rules"
            )
        _tie_pictures(rows, sources, finder)
        sides = _sides(rows, sources, options)
        if "val" not in sides:
            logger.warning(
                "%s: no image is held out for validation; training needs some (--validation)", out
            )
        writer.finish(
            weights=np.array([sources[number].weight for number in rows.source]),
            split=np.array(sides, dtype=object),
            subjects=np.array(_hashed(rows, salt), dtype=object),
            origins=np.array(rows.origin, dtype=object),
            pixel_size_mm=np.array(rows.pixel, dtype=np.float32),
            manifest=_manifest(rows, sides, sources, dropped, options, ignored or {}),
        )
    return SourceBank.load(out)


def _take(
    item: SourceImage,
    number: int,
    source: Source,
    options: CollectOptions,
    finder: DuplicateFinder,
    writer: BankWriter,
    rows: _Rows,
) -> str | None:
    """Keeps one image, or returns the reason why it is dropped."""
    prepared = _prepare(item.magnitude, source, options.maximum_side)
    if isinstance(prepared, str):
        return prepared
    clean, frame = prepared
    here = f"{source.name}/{item.subject}"
    compared = item.subject if item.private else here
    known = compared, digest(clean).tobytes()
    if not source.distinct and known in rows.digests:
        return "copy of the same file"
    if source.distinct:
        finder.keep(frame, compared, picture=False)
    elif not finder.is_new(frame, compared, picture=source.pictures):
        return "near-duplicate"
    rows.digests.add(known)
    writer.add(clean, item.kspace)
    person = item.named or item.private
    subject = item.subject if person else here
    if not (person or source.published):
        rows.short[subject] = item.subject
    rows.source.append(number)
    rows.subject.append(subject)
    rows.named.append(person)
    rows.private.append(item.private)
    rows.origin.append(f"{source.name}/{item.origin}")
    rows.pixel.append(item.pixel_size_mm or (np.nan, np.nan))
    rows.raw.append(item.kspace is not None)
    return None


def _prepare(
    image: np.ndarray, source: Source, maximum_side: int
) -> tuple[np.ndarray, np.ndarray] | str:
    """Returns the cleaned image `y x` and its frame before the crop, or why it is dropped."""
    reason = reject_reason(image, minimum_side=source.minimum_side)
    if reason is not None:
        return reason
    frame = darken_background(trim_frame(image) if source.pictures else image)
    clean = limit_size(crop_to_head(frame), maximum_side)
    if 3 * min(clean.shape) < 2 * source.minimum_side:
        return "head too small"
    return clean, frame


def _tie_pictures(rows: _Rows, sources: Sequence[Source], finder: DuplicateFinder) -> None:
    """Gives pictures that look alike one subject: a person's name among them, else the first."""
    loose = [
        index
        for index, number in enumerate(rows.source)
        if sources[number].pictures and sources[number].unnamed
    ]
    roots = tie(finder.codes[loose])
    names: dict[int, str] = {}
    for index, root in zip(loose, roots, strict=True):
        if rows.named[index]:
            names.setdefault(root, rows.subject[index])
    for index, root in zip(loose, roots, strict=True):
        names.setdefault(root, rows.subject[index])
        if not rows.named[index]:
            rows.subject[index] = names[root]


def _sides(rows: _Rows, sources: Sequence[Source], options: CollectOptions) -> list[str]:
    """The side of each image.

    Raises:
        InputError: if there is only one subject and some are to be held out.
    """
    fixed: dict[str, str] = {}
    for subject, number in zip(rows.subject, rows.source, strict=True):
        side = sources[number].split
        if side is not None:
            fixed.setdefault(subject, side)
    wanted = {"val": options.validation, "test": options.test}
    sides = split_subjects(
        rows.subject,
        fixed,
        validation=options.validation,
        test=options.test,
        seed=options.seed,
        names=rows.short,
    )
    for side, share in wanted.items():
        if share > 0 and side not in sides.values():
            raise InputError(
                f"found {len(sides)} subjects, too few to hold one out for {side!r}: splits are by "
                f"subject, never by slice; {_more_subjects(rows)}"
                f"{', or give --test 0' if side == 'test' else ''}"
            )
    return [sides[subject] for subject in rows.subject]


def _more_subjects(rows: _Rows) -> str:
    """What to do where there are too few of them."""
    if all(rows.private):
        return (
            "these are patients by their identifiers: give more data or, where several were "
            "anonymised to the same one, --ignore-identifiers with --subject-from parent or a "
            "regular expression"
        )
    return "give more data, or name subjects by --subject-from"


def _hashed(rows: _Rows, salt: str | None) -> list[str]:
    """Subjects as they are stored: identifiers of patients only as salted hashes."""
    key = secrets.token_bytes(32) if salt is None else hashlib.sha256(salt.encode()).digest()
    secret = {s for s, private in zip(rows.subject, rows.private, strict=True) if private}

    def stored(subject: str) -> str:
        if subject not in secret:
            return subject
        known_as = f"patient {subject}".encode()
        return f"patient-{hashlib.blake2b(known_as, key=key, digest_size=8).hexdigest()}"

    return [stored(subject) for subject in rows.subject]


def _manifest(
    rows: _Rows,
    sides: list[str],
    sources: Sequence[Source],
    dropped: Sequence[Counter[str]],
    options: CollectOptions,
    ignored: Mapping[str, int],
) -> dict[str, Any]:
    """Counts, licences and settings; no path, no time: the same data give the same text."""
    report: dict[str, Any] = {}
    for number, source in enumerate(sources):
        mine = [index for index, found in enumerate(rows.source) if found == number]
        counts = Counter(sides[index] for index in mine)
        report[source.name] = {
            "kind": source.kind,
            "licence": source.licence,
            "files": source.files,
            "kept": len(mine),
            **{side: counts[side] for side in SPLITS},
            "with k-space": sum(rows.raw[index] for index in mine),
            "subjects": len({rows.subject[index] for index in mine}),
            "weight": source.weight,
            "dropped": dict(dropped[number]),
            "skipped by the reader": dict(source.skipped.counts),
        }
    total = sum(dropped, Counter[str]())
    return {
        "made by": f"chpnet-stream {__version__}",
        "settings": {
            **asdict(options),
            "duplicate distance of pictures": duplicates.PICTURES_DISTANCE,
            "duplicate distance of frames": duplicates.FRAMES_DISTANCE,
            "duplicate distance of volumes": duplicates.VOLUMES_DISTANCE,
            "related distance": duplicates.RELATED_DISTANCE,
        },
        "images": len(rows.source),
        "with k-space": sum(rows.raw),
        "splits": _by_side(rows.subject, sides),
        "dropped": dict(total),
        "files left alone": dict(ignored),
        "sources": report,
    }


def _by_side(subjects: Iterable[str], sides: Iterable[str]) -> dict[str, dict[str, int]]:
    pairs = list(zip(subjects, sides, strict=True))
    return {
        side: {
            "images": sum(found == side for _, found in pairs),
            "subjects": len({subject for subject, found in pairs if found == side}),
        }
        for side in SPLITS
    }
