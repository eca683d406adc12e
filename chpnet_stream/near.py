"""The known name that a mistyped one is near to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """The known name that looks most like `name`; None where none does.

    Upper and lower case are not told apart, nor are `-` and `_`.

    Args:
        name: What was found.
        known: What could have been meant.
        alike: How alike they must be, from 0 to 1; more where all names share a part.
    """
    plain = {_plain(k): k for k in known}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=alike)
    return plain[found[0]] if found else None


def hint(name: str, known: Iterable[str], otherwise: str = "there are") -> str:
    """What to say of an unknown name: the near one, or all that are known.

    Args:
        name: What was found.
        known: What could have been meant.
        otherwise: Stands before the known names where none is near.

    Returns:
        "did you mean 'x'?", or "there are: x, y".
    """
    names = list(known)
    near = nearest(name, names)
    return f"did you mean '{near}'?" if near else f"{otherwise}: {', '.join(names)}"


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")
