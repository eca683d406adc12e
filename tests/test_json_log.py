"""Log records as JSON, one object a line."""

import json
import logging
import sys

from chpnet_stream.json_log import JsonFormatter
from chpnet_stream.streaming.current import CURRENT_SCAN


def line(message: str = "a %s", **extra: object) -> dict[str, object]:
    record = logging.LogRecord("chpnet_stream.x", logging.WARNING, "", 1, message, ("b\n",), None)
    record.created, record.msecs = 0.5, 500.0
    record.__dict__.update(extra)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_record_outside_of_scans() -> None:
    assert line() == {
        "time": "1970-01-01T00:00:00.500Z",
        "level": "warning",
        "logger": "chpnet_stream.x",
        "message": "a b\n",
    }


def test_the_scan_and_its_numbers_are_told() -> None:
    token = CURRENT_SCAN.set("20260101-1")
    try:
        told = line(fields={"images": 3, "latency_ms": {"max": float("inf")}})
    finally:
        CURRENT_SCAN.reset(token)
    assert told["scan"] == "20260101-1"
    assert told["images"] == 3
    assert told["latency_ms"] == {"max": None}


def test_a_traceback_is_one_value() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        told = line(exc_info=sys.exc_info())
    assert "ValueError: why" in str(told["traceback"])
