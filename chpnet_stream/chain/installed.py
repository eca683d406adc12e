"""The chains that came with the package, and where Gadgetron looks for them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.near import hint

INSIDE = Path("share", "gadgetron", "config")
CHECKOUT = Path(__file__).parents[2] / "configs" / "gadgetron"
"""Where an editable installation has them."""

SITE = Path(__file__).parents[2]
"""The folder of packages that we are in."""


def chain_folders() -> list[Path]:
    """Folders with chains: of Gadgetron's home, of this environment, of the checkout.

    pip of a system's Python puts them elsewhere, into `/usr/local` or, with `--user`, `~/.local`.
    """
    homes = [os.environ.get("GADGETRON_HOME"), sys.prefix]
    if SITE.name in ("site-packages", "dist-packages"):
        homes.append(str(SITE.parents[2]))
    folders = dict.fromkeys(Path(home) / INSIDE for home in homes if home)
    return [folder for folder in (*folders, CHECKOUT) if folder.is_dir()]


def installed_chains() -> dict[str, Path]:
    """Our chains by name; the first folder that has one is where Gadgetron finds it."""
    found: dict[str, Path] = {}
    for folder in chain_folders():
        for path in sorted(folder.glob("chpnet_*.xml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_chain(name: str) -> Path:
    """A chain by its path, or an installed one by its name (with or without `.xml`).

    Raises:
        ConfigurationError: There is none.
    """
    path = Path(name)
    if path.is_file() or path.parent != Path():
        return path
    for folder in chain_folders():
        for candidate in (folder / name, folder / f"{name}.xml"):
            if candidate.is_file():
                return candidate
    raise ConfigurationError(
        f"expected a chain (.xml) or the name of an installed one, found '{name}'; "
        f"{hint(name.removesuffix('.xml'), installed_chains(), 'installed')}"
    )


def about(comment: str) -> str:
    """The first sentence of a chain's comment."""
    paragraph = " ".join(comment.strip().split("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".:")
