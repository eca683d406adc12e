"""One JSON file for every scan that has ended."""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from chpnet_stream import __version__
from chpnet_stream.errors import ConfigurationError, OutputError
from chpnet_stream.json_text import json_text
from chpnet_stream.streaming.events import ScanEnded, ScanEvent, ScanOpened
from chpnet_stream.streaming.record import ScanRecord
from chpnet_stream.whole_file import write_whole

FORMAT = "chpnet-scan-summary/1"
MOST_FILES = 1000
NAME = re.compile(r"scan-([0-9]{8}-[0-9]{6})-[0-9]{4,}-[0-9a-f]{4}\.json")
"""Of a summary: `streaming.current.new_scan_id` is in it, which begins with the local time."""

AHEAD_SECONDS = 2 * 3600.0
"""So far ahead a time may be: where summer time ends, the hour before comes again."""

logger = logging.getLogger(__name__)


class ScanSummaries:
    """Observes scans and writes `scan-<id>.json` at the end of each.

    Files are written beside their name and renamed when they are whole; beyond the number that is
    kept the oldest go.

    Args:
        folder: Where to; made if it is not there.
        keep: Files kept.
        show_patient: Write what the header says of the patient.

    Raises:
        ConfigurationError: The folder can't be written to.
    """

    def __init__(self, folder: Path, keep: int = MOST_FILES, *, show_patient: bool = False) -> None:
        self.folder = folder
        self.keep = keep
        self.show_patient = show_patient
        self._scans: dict[str, ScanRecord] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"--summary {folder}: can't write there ({error.strerror}); choose another folder"
            ) from error

    def observe(self, event: ScanEvent) -> None:
        """See `ScanObserver.observe`."""
        scan_id = event.live.scan_id
        if isinstance(event, ScanOpened):
            self._scans[scan_id] = ScanRecord(event.live, show_patient=self.show_patient)
        record = self._scans.get(scan_id)
        if record is None:
            return
        record.apply(event)
        if isinstance(event, ScanEnded):
            del self._scans[scan_id]
            try:
                self._write(record.told())
            except (OSError, OutputError) as error:
                logger.error("the summary of scan %s could not be written: %s", scan_id, error)

    def _write(self, told: dict[str, Any]) -> None:
        text = json_text({"format": FORMAT, "version": __version__, **told}, indent=2)
        name = f"scan-{told['id']}.json"
        write_whole(self.folder / name, f"{text}\n")
        others = [path for path in self.folder.glob("scan-*.json") if path.name != name]
        # Names begin with a time. What lies ahead is of a clock that was set back since: it is old.
        ahead = time.strftime("%Y%m%d-%H%M%S", time.localtime(time.time() + AHEAD_SECONDS))
        dated = {path: found[1] for path in others if (found := NAME.fullmatch(path.name))}
        oldest = sorted(dated, key=lambda path: (dated[path] <= ahead, path.name))
        for old in oldest[: max(0, len(oldest) + 1 - self.keep)]:
            with suppress(FileNotFoundError):
                old.unlink()
