"""From paths to sources of images: what each file is, whom it shows, how it is treated."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from chpnet_stream.errors import ConfigurationError, InputError
from chpnet_training.bank import SourceBank
from chpnet_training.known import Known, recognise
from chpnet_training.readers.detect import detect_kind
from chpnet_training.readers.image import SkipCounter, SourceImage

logger = logging.getLogger(__name__)

__all__ = ["ReadOptions", "Source", "SourceBank", "find_sources", "phantom_source"]

MINIMUM_SIDE = {"images": 160}
MINIMUM_SIDE_OF_VOLUMES = 120
NOT_STATED = "not stated"
SERIES_OF_ONE = 12
"""Most volumes of a folder that may be one person's; more are those of many people."""
_BIDS_SUBJECT = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)(?=[/_.]|$)")


@dataclass(frozen=True)
class Source:
    """One origin of images and how it is treated.

    Attributes:
        name: short name, in the manifest and before its origins.
        licence: licence and credit, as the source states them.
        images: the images, read when iterated.
        kind: what the files are.
        files: how many there are.
        weight: how often each image is drawn relative to the others.
        split: "train", "val" or "test" for all of it; None splits by subject.
        minimum_side: images with a shorter side, as read or after the crop, are dropped (after
            the crop two thirds of it are enough).
        pictures: single pictures and not slices of a volume: frames are trimmed off, and each is
            compared with every other one (neighbouring slices of a volume must stay).
        unnamed: subjects are names of files: pictures that look alike are tied into one.
        distinct: images are known to differ and are not compared at all.
        published: the name is that of the data, and not that of the folder they lie in.
        skipped: filled by the reader with what it left out.
    """

    name: str
    licence: str
    images: Iterable[SourceImage]
    kind: str = "images"
    files: int = 0
    weight: float = 1.0
    split: str | None = None
    minimum_side: int = 160
    pictures: bool = False
    unnamed: bool = True
    distinct: bool = False
    published: bool = False
    skipped: SkipCounter = field(default_factory=SkipCounter)


@dataclass(frozen=True)
class ReadOptions:
    """How files are found and read.

    Attributes:
        kind: what all files are; None looks into each.
        exclude: patterns (`fnmatch`) of names, or of paths below the given folder.
        licence: of everything that is not recognised by its name.
        subject_from: "file", "parent" (the folder's name) or a regular expression, whose first
            group (or whole match) in the file's path is the subject. DICOM, and raw data with a
            patient's identifier, have their own.
        identifiers: whether they do; False where many patients were given the same one.
        minimum_side: least pixels of the shorter side; None for 160 of pictures, 120 of volumes.
        step: every how manieth slice of a volume or series.
        kspace: whether to keep the k-space of raw data.
        skip_unreadable: count files that cannot be read, and go on.
        tick: called with every file that is done.
    """

    kind: str | None = None
    exclude: tuple[str, ...] = ()
    licence: str = NOT_STATED
    subject_from: str = "file"
    identifiers: bool = True
    minimum_side: int | None = None
    step: int = 1
    kspace: bool = True
    skip_unreadable: bool = False
    tick: Callable[[Path], None] = lambda path: None

    def subject(self, path: Path, root: Path) -> tuple[str, bool]:
        """The subject of a file that names none itself, and whether that is a person's name.

        Raises:
            ConfigurationError: if the regular expression is none.
            InputError: if it does not match the file's path.
        """
        below = _below(path, root)
        if self.subject_from == "parent":
            return path.absolute().parent.name, True  # not of what a link leads to
        if self.subject_from == "file":
            bids = _BIDS_SUBJECT.search(below) or _BIDS_SUBJECT.search(_folder(path, root))
            if bids:
                return bids.group(1), True
            return below.split(".nii")[0].removesuffix(path.suffix), False
        try:
            found = re.search(self.subject_from, below)
        except re.error as error:
            raise ConfigurationError(
                f"--subject-from {self.subject_from!r}: expected file, parent or a regular "
                f"expression ({error})"
            ) from error
        if found is None:
            raise InputError(
                f"{path}: --subject-from {self.subject_from!r} does not match {below!r}; "
                "change it, or leave the file out by --exclude"
            )
        return str(found.group(1) if found.groups() else found.group(0)), True

    def unreadable(self, error: InputError, path: Path, skipped: SkipCounter) -> None:
        """Count a file that cannot be read.

        Raises:
            InputError: the same error, unless these are to be skipped.
        """
        if not self.skip_unreadable:
            raise error
        logger.warning("skipped: %s", error)
        skipped.skip("unreadable", path.name)


@dataclass(frozen=True)
class _Group:
    """Files that become one source."""

    kind: str
    root: Path
    known: Known | None
    files: list[Path]


def find_sources(
    paths: Sequence[Path], options: ReadOptions
) -> tuple[list[Source], Counter[str], int]:
    """Looks at all files below ``paths`` and groups them into sources.

    Returns:
        The sources; why files were left alone, counted; the number of files that will be read.

    Raises:
        InputError: if a path is missing, or names one file of no known kind, or nothing is found.
    """
    groups: dict[tuple[object, ...], _Group] = {}
    ignored = SkipCounter()
    seen: set[Path] = set()
    for root in paths:
        for path in _files(root):
            below = _below(path, root)
            if any(fnmatch(below, p) or fnmatch(path.name, p) for p in options.exclude):
                ignored.skip("excluded", below)
                continue
            if path.resolve() in seen:
                ignored.skip("given twice", below)
                continue
            seen.add(path.resolve())
            kind = _kind(path, root, options, ignored)
            if kind is None:
                continue
            known = recognise(path)
            key = (kind, known) if known else (kind, root)
            groups.setdefault(key, _Group(kind, root, known, [])).files.append(path)
    if paths and not groups:
        counted = ", ".join(f"{n} {why}" for why, n in ignored.counts.items()) or "no files"
        raise InputError(
            f"{', '.join(map(str, paths))}: nothing to read ({counted}); expected fastMRI or "
            "ISMRMRD HDF5, NIfTI, DICOM, PNG or JPEG files"
        )
    names: Counter[str] = Counter()
    sources = []
    for group in groups.values():
        name = _name(group)
        names[name] += 1
        name = name if names[name] == 1 else f"{name} {names[name]}"
        sources.append(_source(group, name, options))
    return sources, ignored.counts, sum(source.files for source in sources)


def phantom_source(heads: int) -> Source:
    """Returns the source of ``heads`` simulated heads, five slices each, each head a subject."""
    from chpnet_training.readers.phantoms import read_phantoms

    return Source(
        "phantoms",
        "simulated by chpnet-stream, MIT",
        read_phantoms(range(heads)),
        kind="phantoms",
        minimum_side=MINIMUM_SIDE_OF_VOLUMES,
        distinct=True,
        published=True,
    )


def _files(root: Path) -> Iterator[Path]:
    if root.is_dir():
        found = (p for p in root.rglob("*") if p.is_file())
        yield from sorted(p for p in found if not _is_hidden(p.relative_to(root)))
    elif root.is_file():
        yield root
    else:
        raise InputError(f"{root}: no such file or folder; check the path.")


def _is_hidden(below: Path) -> bool:
    """Whether a file or a folder above it is hidden: snapshots, thumbnails, checkpoints."""
    return any(part.startswith(".") for part in below.parts)


def _below(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _folder(path: Path, root: Path) -> str:
    """Name of the folder that was given, or of the folder of the file that was given."""
    return (path.absolute().parent if path == root else root.resolve()).name


def _kind(path: Path, root: Path, options: ReadOptions, ignored: SkipCounter) -> str | None:
    """The kind of a file; None where it is left alone, and counted."""
    if options.kind is not None:
        return options.kind
    try:
        kind = detect_kind(path)
    except InputError as error:
        options.unreadable(error, path, ignored)
        return None
    if kind is None and path == root:
        raise InputError(
            f"{path}: of no known kind; expected fastMRI or ISMRMRD HDF5, NIfTI, DICOM, PNG or "
            "JPEG. If it is one of these, say so by --kind."
        )
    if kind is None:
        ignored.skip("of no known kind", path.name)
    return kind


def _name(group: _Group) -> str:
    """Of a source. Folders of DICOM files are often named after patients: theirs are not told."""
    if group.known is not None:
        return group.known.name
    return "dicom" if group.kind == "dicom" else group.root.resolve().name


def _source(group: _Group, name: str, options: ReadOptions) -> Source:
    known = group.known or Known("*", name, options.licence, step=options.step)
    default = MINIMUM_SIDE.get(group.kind, MINIMUM_SIDE_OF_VOLUMES)
    if group.known is None and group.kind == "nifti" and options.subject_from == "file":
        _warn_of_folders(group, options)
    # recognised files: a lone slice of a published volume is no picture off the web
    skipped = SkipCounter()
    return Source(
        name,
        known.licence,
        _read(group, known, options, skipped),
        kind=group.kind,
        files=len(group.files),
        weight=known.weight,
        split=known.split,
        minimum_side=default if options.minimum_side is None else options.minimum_side,
        pictures=group.kind == "images" and known.split is None,
        unnamed=group.kind == "images" and options.subject_from == "file",
        published=group.known is not None,
        skipped=skipped,
    )


def _warn_of_folders(group: _Group, options: ReadOptions) -> None:
    """Tell where each file is taken for a subject and folders with several seem to be people."""
    named = (options.subject(path, group.root)[1] for path in group.files)
    loose = [path for path, person in zip(group.files, named, strict=True) if not person]
    folders = Counter(path.parent for path in loose)
    if len(folders) > 1 and 2 <= max(folders.values()) <= SERIES_OF_ONE:
        logger.warning(
            "%s: %d volumes in %d folders, each taken for another subject; where a folder is one "
            "person, give --subject-from parent, or one person is trained on and validated with",
            group.root,
            len(loose),
            len(folders),
        )


def _read(
    group: _Group, known: Known, options: ReadOptions, skipped: SkipCounter
) -> Iterator[SourceImage]:
    """The images of a group of files, with their subjects."""
    if group.kind == "dicom":
        from chpnet_training.readers.dicom import read_dicom

        yield from read_dicom(
            group.files,
            step=options.step,
            subject=None if options.identifiers else _subject_of_dicom(group.root, options),
            skipped=skipped,
            unreadable=lambda error, path: options.unreadable(error, path, skipped),
            tick=options.tick,
        )
        return
    for path in group.files:
        subject, person = options.subject(path, group.root)
        try:
            for image in _read_file(path, group.kind, known, options, skipped):
                named = image
                if not (image.private and options.identifiers):
                    named = replace(image, subject=subject, named=person, private=False)
                if group.kind == "images":
                    named = replace(named, origin=_below(path, group.root))
                yield named
        except InputError as error:
            options.unreadable(error, path, skipped)
        options.tick(path)


def _subject_of_dicom(root: Path, options: ReadOptions) -> Callable[[Path], str]:
    """Whom a DICOM file shows by its path; slices of one series must not be told apart.

    Raises:
        ConfigurationError: if subjects are names of files.
    """
    if options.subject_from == "file":
        raise ConfigurationError(
            "--ignore-identifiers: expected --subject-from parent or a regular expression, found "
            "--subject-from file, which would take every slice of a DICOM series for a patient"
        )
    return lambda path: options.subject(path, root)[0]


def _read_file(
    path: Path, kind: str, known: Known, options: ReadOptions, skipped: SkipCounter
) -> Iterator[SourceImage]:
    """The images of one file; readers are imported when one of their files comes."""
    if kind == "images":
        from chpnet_training.readers.pictures import read_picture

        yield read_picture(path)
    elif kind == "nifti":
        from chpnet_training.readers.nifti import read_nifti

        yield from read_nifti(
            path, minimum_filled=known.minimum_filled, step=known.step, skipped=skipped
        )
    elif kind == "fastmri":
        from chpnet_training.readers.fastmri import read_fastmri

        yield from read_fastmri(path, kspace=options.kspace, skipped=skipped)
    else:
        from chpnet_training.readers.mrd import read_mrd

        yield from read_mrd(path, kspace=options.kspace)
