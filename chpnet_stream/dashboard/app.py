"""The pages and data of the live view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chpnet_stream.json_text import json_text
from chpnet_stream.whole_number import whole_number

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from chpnet_stream.dashboard.prometheus import ScanMetrics
    from chpnet_stream.dashboard.store import ScanStore

STATIC = Path(__file__).parent / "static"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

PERIOD_SECONDS = 0.25
"""How often a page is told what is new."""

BEAT_SECONDS = 3.0
LONGEST_NUMBER = 20
"""Digits of a picture's number."""

MOST_PAGES = 16
"""Pages that are told of changes at once."""


def make_app(
    store: ScanStore,
    metrics: ScanMetrics,
    closing: Callable[[], bool],
    facts: dict[str, Any] | None = None,
) -> Starlette:
    """The application, without its guard.

    Args:
        store: Scans and pictures.
        metrics: For Prometheus.
        closing: True when the server is about to end: pages are sent away.
        facts: What is told of the server: version, what it serves.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in KINDS}
    pages = 0

    def static(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in files:
            return PlainTextResponse("404: no such page\n", 404)
        return Response(files[name], media_type=KINDS[Path(name).suffix])

    async def index(request: Request) -> Response:
        return static(request)

    async def file(request: Request) -> Response:
        return static(request)

    async def picture(request: Request) -> Response:
        number = whole_number(request.path_params["number"], LONGEST_NUMBER)
        found = None if number is None else store.picture(number)
        if found is None:
            return PlainTextResponse("404: this picture is not kept any more\n", 404)
        return Response(found.pixels, media_type="application/octet-stream")

    async def scans(request: Request) -> Response:
        text = json_text({"state": store.state(), "scans": store.scans({})})
        return Response(text, media_type="application/json")

    async def prometheus(request: Request) -> Response:
        text, kind = metrics.page(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": kind})

    async def health(request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def events(request: Request) -> Response:
        nonlocal pages
        if pages >= MOST_PAGES:
            return PlainTextResponse(
                f"503: {MOST_PAGES} pages are open already; close one\n", 503, {"retry-after": "10"}
            )

        async def counted() -> AsyncIterator[str]:
            nonlocal pages
            pages += 1
            try:
                yield sse("hello", facts or {})
                async for text in changes(store, closing):
                    yield text
            finally:
                pages -= 1

        return StreamingResponse(
            counted(), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    return Starlette(
        routes=[
            Route("/", index),
            Route("/static/{name}", file),
            Route("/api/scans", scans),
            Route("/api/events", events),
            Route("/api/pictures/{number}", picture),
            Route("/metrics", prometheus),
            Route("/healthz", health),
        ]
    )


async def changes(store: ScanStore, closing: Callable[[], bool]) -> AsyncIterator[str]:
    """Everything at first, then what has changed, as server-sent events."""
    seen: dict[str, Any] = {}
    since, quiet = 0, BEAT_SECONDS
    while not closing():
        scans = store.scans(seen)
        since, pictures = store.pictures(since)
        if scans or pictures or quiet >= BEAT_SECONDS:
            quiet = 0.0
            yield sse("state", store.state())
            if scans:
                yield sse("scans", scans)
            if pictures:
                yield sse("pictures", pictures)
        await asyncio.sleep(PERIOD_SECONDS)
        quiet += PERIOD_SECONDS
    yield sse("bye", {})


def sse(name: str, value: Any) -> str:
    """One server-sent event. There are no line breaks in its JSON."""
    return f"event: {name}\ndata: {json_text(value)}\n\n"
