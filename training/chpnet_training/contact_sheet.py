"""A picture of what is in a file of training data, for people to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chpnet_stream.whole_file import whole_file
from chpnet_training.bank import SourceBank

TILE = 132
CAPTION = 12
COLUMNS = 12
COLOURS = {"train": (200, 200, 200), "val": (90, 170, 255), "test": (255, 170, 60)}


def save_contact_sheet(bank: SourceBank, path: Path, *, images: int = 96, seed: int = 0) -> int:
    """Writes a PNG of images drawn from all sources, with their origins.

    Captions of training images are grey, of validation images blue, of test images orange; a
    trailing "k" says that there is k-space too. Every image is shown from zero to its 99.5th
    percentile.

    Args:
        bank: the data.
        path: the PNG.
        images: most images shown.
        seed: which ones.

    Returns:
        How many are shown.

    Raises:
        OutputError: if it can't be written.
    """
    from PIL import Image, ImageDraw

    chosen = choose(bank, images, seed)
    rows = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION)), (0, 0, 0))
    pen = ImageDraw.Draw(sheet)
    for place, index in enumerate(chosen):
        left, top = place % COLUMNS * TILE, place // COLUMNS * (TILE + CAPTION)
        image = bank[index]
        level = max(float(np.percentile(image, 99.5)), 1e-6)
        grey = Image.fromarray(np.round(255 * np.clip(image / level, 0, 1)).astype(np.uint8))
        grey.thumbnail((TILE - 4, TILE - 4))
        sheet.paste(grey, (left + (TILE - grey.width) // 2, top + (TILE - grey.height) // 2))
        caption = str(bank.origins[index])[-20:] + (" k" if bank.raw[index] else "")
        pen.text((left + 2, top + TILE - 1), caption, fill=COLOURS[str(bank.split[index])])
    with whole_file(path) as part:
        sheet.save(part, format="PNG")
    return len(chosen)


def choose(bank: SourceBank, images: int, seed: int) -> list[int]:
    """Returns indices in order, drawn so that no source and no split is missing."""
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[int]] = {}
    for index in rng.permutation(len(bank)):
        key = (str(bank.origins[index]).split("/")[0], str(bank.split[index]))
        groups.setdefault(key, []).append(int(index))
    order = [group[0] for group in groups.values()]
    rest = [index for index in rng.permutation(len(bank)).tolist() if index not in set(order)]
    return sorted((order + rest)[:images])
