"""How long, and for how many, the live view waits: connections that ask for nothing cost files."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_OPEN = 128
"""Connections, those included that are only told that there are too many requests."""

REQUEST_SECONDS = 10.0
"""A request must have come so long after the connection, or after the answer before it."""


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, with an end to connections that ask for nothing.

    The files that a process may open are few, and the scans beside need them.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`: one too many is let go of at once."""
        super().connection_made(transport)
        if len(self.connections) > MOST_OPEN:
            transport.abort()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`: a whole request ends the waiting, a part of one doesn't."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Called by uvicorn when an answer has been given."""
        self._wait()
        super().on_response_complete()  # may begin with the next request, if that has come

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
