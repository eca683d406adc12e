"""Plans on disk: whole, checked against their header before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from chpnet_stream.engines.plan_key import PlanKey
from chpnet_stream.engines.trust import untrusted, write_trusted
from chpnet_stream.errors import OutputError

if TYPE_CHECKING:
    from chpnet_stream.network.card import PlanRecord

FORMAT = 1
HEADER = ".plan.json"
CACHE_VARIABLE = "CHPNET_PLAN_CACHE"

logger = logging.getLogger(__name__)


def plan_cache() -> Path:
    """Folder of the plans made on this machine.

    `$CHPNET_PLAN_CACHE`, or `chpnet-stream/plans` in the user's cache (`$XDG_CACHE_HOME`, by
    default `~/.cache`).
    """
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "chpnet-stream" / "plans"


class PlanStore:
    """Plans in a folder: `STEM.plan.json`, the header, and `STEM.<i>.<checksum>.plan`.

    A plan is code for a GPU. It is handed out only if its header says exactly the key that is
    wanted, its bytes have the checksum of the header, and nobody else can write to the folder.
    Plans are named by their content: of two processes that make them at once, each writes its own,
    and the header that is written last names plans that are there.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def stem(key: PlanKey) -> str:
        """Name of a key's files in a cache."""
        return f"{key.package}-{key.precision}-{key.target}-{key.digest[:16]}"

    @staticmethod
    def stem_beside(model: str, kind: PlanKey | PlanRecord) -> str:
        """Name of the files beside a card, which has one set of plans of a kind.

        Args:
            model: Name of the card.
            kind: What says package, precision and target.
        """
        return f"{model}.{kind.package}.{kind.precision}.{kind.target}"

    def header(self, stem: str) -> Path:
        """The header of the plans of that name."""
        return self.folder / f"{stem}{HEADER}"

    def read(self, key: PlanKey, stem: str | None = None) -> list[bytes] | None:
        """The plans of a key, one for each denoiser; None where they must be made.

        A foreign or damaged plan is told of by a warning and not handed out.

        Args:
            key: What is wanted.
            stem: Name of the files; by default that of a cache.
        """
        header = self.header(stem or self.stem(key))
        try:
            if not header.exists():
                return None
            fault = untrusted(self.folder) or untrusted(header)
            if fault is None:
                fault, plans = self._checked(key, json.loads(header.read_text(encoding="utf-8")))
                if fault is None:
                    return plans
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            fault = f"its header can't be read ({type(error).__name__})"
        logger.warning("%s: found a plan that can't be used: %s; it is made again", header, fault)
        return None

    def _checked(self, key: PlanKey, header: dict[str, object]) -> tuple[str | None, list[bytes]]:
        if header["format"] != FORMAT:
            return f"format {header['format']}, expected {FORMAT}", []
        found, files = header["key"], header["files"]
        if not isinstance(found, dict) or not isinstance(files, dict):
            return "its header has another layout", []
        difference = key.difference(found)
        if difference:
            return f"it is for another use ({difference})", []
        if len(files) != len(key.graphs):
            return f"{len(files)} files, expected {len(key.graphs)}", []
        plans = []
        for name, checksum in files.items():
            if Path(name).name != name:
                return f"'{name}' is no name of a file", []
            path = self.folder / name
            if not path.is_file():
                return f"{name} is missing", []
            fault = untrusted(path)
            if fault is not None:
                return fault, []
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != checksum:
                return f"{name} is damaged (its checksum differs from the header's)", []
            plans.append(content)
        return None, plans

    def write(self, key: PlanKey, plans: list[bytes], stem: str | None = None) -> dict[str, str]:
        """Keep plans, each file whole or not at all; the header is written last.

        Args:
            key: What they are.
            plans: One for each denoiser.
            stem: Name of the files; by default that of a cache.

        Returns:
            Checksums by the names of the files.

        Raises:
            OutputError: If they can't be written.
        """
        stem = stem or self.stem(key)
        sums = [hashlib.sha256(plan).hexdigest() for plan in plans]
        names = [f"{stem}.{i}.{checksum[:12]}.plan" for i, checksum in enumerate(sums)]
        files = dict(zip(names, sums, strict=True))
        header = {"format": FORMAT, "key": key.as_json(), "files": files}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, plan in zip(names, plans, strict=True):
                write_trusted(self.folder / name, plan)
            before = self._named(stem)
            write_trusted(self.header(stem), json.dumps(header, indent=2) + "\n")
            for name in before - set(names):
                with suppress(OSError):  # nothing names it any more
                    (self.folder / name).unlink()
        except (OSError, OutputError) as error:
            raise OutputError(
                f"{self.folder}: expected to write plans there, found: {error}; set "
                f"{CACHE_VARIABLE} or --out to another folder"
            ) from error
        return files

    def _named(self, stem: str) -> set[str]:
        """Plans that the header names now, as far as they are its own."""
        try:
            files = json.loads(self.header(stem).read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, TypeError, KeyError):
            return set()
        own = re.compile(rf"{re.escape(stem)}\.\d+(\.[0-9a-f]+)?\.plan")
        return {name for name in files if own.fullmatch(name)}

    def near(self, key: PlanKey) -> list[str]:
        """How plans of the same graphs differ that are for another use, in words, nearest first."""
        differences = []
        for path in sorted(self.folder.glob(f"*{HEADER}")):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))["key"]
                same = found["graphs"] == list(key.graphs)
                difference = key.difference(found) if same else ""
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue
            if difference:
                differences.append(difference)
        return sorted(differences, key=lambda text: text.count(" instead of "))
