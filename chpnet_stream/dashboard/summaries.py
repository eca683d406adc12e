"""One JSON file for every scan that has ended."""

from __future__ import annotations

import logging
import os
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
        write_whole(self.folder / f"scan-{told['id']}.json", f"{text}\n")
        files = sorted(self.folder.glob("scan-*.json"))
        for old in files[: max(0, len(files) - self.keep)]:
            with suppress(FileNotFoundError):
                old.unlink()
