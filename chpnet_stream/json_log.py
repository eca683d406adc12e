"""Log records as JSON, one object a line."""

from __future__ import annotations

import logging
import time

from chpnet_stream.json_text import json_text
from chpnet_stream.streaming.current import CURRENT_SCAN


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message; scan where one is being worked on; traceback if any.

    Records may bring further values in `extra={"fields": {...}}`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "time": f"{whole}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        scan = CURRENT_SCAN.get()
        if scan:
            told["scan"] = scan
        told |= getattr(record, "fields", {})
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json_text(told)
