"""Plans on disk: whole, checked against their header before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from chpnet_stream.engines.plan_key import PlanKey
from chpnet_stream.errors import OutputError
from chpnet_stream.whole_file import write_whole

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
    """Plans in a folder: `STEM.plan.json`, the header, and `STEM.<i>.plan`.

    A plan is code for a GPU. It is handed out only if its header says exactly the key that is
    wanted, its bytes have the checksum of the header, and nobody else can write to the folder.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def stem(key: PlanKey) -> str:
        """Name of a key's files in a cache."""
        return f"{key.package}-{key.precision}-{key.target}-{key.digest[:16]}"

    def read(self, key: PlanKey, stem: str | None = None) -> list[bytes] | None:
        """The plans of a key, one for each denoiser; None where they must be made.

        A foreign or damaged plan is told of by a warning and not handed out.

        Args:
            key: What is wanted.
            stem: Name of the files; by default that of a cache.
        """
        header = self.folder / f"{stem or self.stem(key)}{HEADER}"
        if not header.exists():
            return None
        fault = self._unsafe()
        if fault is None:
            try:
                content = json.loads(header.read_text(encoding="utf-8"))
                fault, plans = self._checked(key, content)
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                fault = f"its header can't be read ({type(error).__name__})"
            else:
                if fault is None:
                    return plans
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
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != checksum:
                return f"{name} is damaged (its checksum differs from the header's)", []
            plans.append(content)
        return None, plans

    def _unsafe(self) -> str | None:
        """Why the folder can't be trusted: somebody else can write to it."""
        if not hasattr(os, "getuid"):
            return None
        found = self.folder.stat()
        if found.st_uid not in (os.getuid(), 0):
            return "its folder belongs to another user"
        if found.st_mode & 0o002:
            return "everybody can write to its folder; chmod o-w it"
        return None

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
        names = {f"{stem}.{i}.plan": plan for i, plan in enumerate(plans)}
        files = {name: hashlib.sha256(plan).hexdigest() for name, plan in names.items()}
        header = {"format": FORMAT, "key": key.as_json(), "files": files}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, plan in names.items():
                write_whole(self.folder / name, plan)
            write_whole(self.folder / f"{stem}{HEADER}", json.dumps(header, indent=2) + "\n")
        except (OSError, OutputError) as error:
            raise OutputError(
                f"{self.folder}: expected to write plans there, found: {error}; set "
                f"{CACHE_VARIABLE} or --out to another folder"
            ) from error
        return files
