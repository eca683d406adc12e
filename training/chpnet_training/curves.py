"""Curves for TensorBoard, written by whoever calls, so that a failure is told there.

TensorBoard's own writer is a thread, which prints a traceback of its own and fails some calls later
in whatever runs then.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Curves:
    """An event file, to which each call appends.

    Args:
        folder: Where it goes; made by the first call.
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard reads files in the order of their names
        self.path = folder / f"events.out.tfevents.{time.time():017.6f}.{os.getpid()}"

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append values by tag. The first call hides what other files have from this step on.

        Raises:
            OSError: If they can't be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        events: list[Any] = [{"summary": Summary(value=points)}]
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            begun = SessionLog(status=SessionLog.START)
            events = [{"file_version": "brain.Event:2"}, {"session_log": begun}, *events]
        with self.path.open("ab") as file:
            records = RecordWriter(file)
            for content in events:
                event = Event(wall_time=time.time(), step=step, **content)
                records.write(event.SerializeToString())
