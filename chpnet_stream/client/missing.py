"""Whether all images have come, and which have not."""

from __future__ import annotations

from collections.abc import Mapping

from chpnet_stream.client.report import SendReport
from chpnet_stream.mrd.expected import POSITION_FIELDS, Expected

NAMED = 5
"""So many of the images that are missing are named."""


def missing_images(
    report: SendReport, expected: Expected, images: int, sent: Mapping[int, int] | None = None
) -> str:
    """Which images are missing, in words; empty where all have come.

    Images are looked for by their counters. Where the server has set others than the lines had,
    its images are counted instead: the largest series must have them all.

    Args:
        report: What came.
        expected: What the scan promises.
        images: How many images must come.
        sent: Images that were sent, by series; empty where acquisitions were sent.
    """
    if sent and images == sum(sent.values()):
        return _missing_of_series(report, sent)
    found = report.received.values()
    known = expected.keys and all(expected.keys.issuperset(keys) for keys in found)
    if known and images == expected.images:
        each = expected.partitions
        missing = {
            key: each - max((keys[key] for keys in found), default=0)
            for key in sorted(expected.keys)
        }
        missing = {key: n for key, n in missing.items() if n > 0}
        if not missing:
            return ""
        named = "; ".join(_words(key) for key in list(missing)[:NAMED])
        more = f"; and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        come = images - sum(missing.values())
        return f"found images of {come} of {images} slices, none of: {named}{more}"
    most = max(report.series.values(), default=0)
    return "" if most >= images else f"found {most} images, expected {images}"


def _missing_of_series(report: SendReport, sent: Mapping[int, int]) -> str:
    """Where images are sent, every series has as many as before, or all together have."""
    came = report.series
    if not sent.keys() <= came.keys():  # the server numbers them anew, or a series is missing
        images = sum(count for n, count in came.items() if n in sent) or report.images
        wanted = sum(sent.values())
        return "" if images >= wanted else f"found {images} images, expected {wanted}"
    short = {number: count for number, count in sent.items() if came[number] < count}
    found = [f"{came[n]} of {count} images of series {n}" for n, count in sorted(short.items())]
    return f"found {', '.join(found)}" if found else ""


def _words(key: tuple[int, ...]) -> str:
    """Counters in words; the slice always, of the others those that are not 0."""
    pairs = list(zip(POSITION_FIELDS, key, strict=True))
    return " ".join(f"{name} {value}" for i, (name, value) in enumerate(pairs) if value or i == 0)
