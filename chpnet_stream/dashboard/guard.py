"""Who may look: host names, the token, and the headers that keep a browser in bounds."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from chpnet_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN_VARIABLE = "CHPNET_DASHBOARD_TOKEN"  # noqa: S105 - the name of a variable
SHORTEST_TOKEN = 16

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

ENTER = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=/"><title>chpnet-stream</title></head>
<body><p><a href="/">To the live view</a></p></body></html>"""

STRANGER = """401: this live view needs its token.

It was printed when the server started ("live view at http://...?token=..."), or is what its
administrator has set. Open the page with ?token=... once; programs send it as
"Authorization: Bearer ..."."""


def is_loopback(host: str) -> bool:
    """True where only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def token_for(host: str, given: str | None) -> tuple[str | None, bool]:
    """The token of a live view, and whether it was made here.

    Args:
        host: The address that it listens on.
        given: What the environment says; it is heeded on the loopback too.

    Raises:
        ConfigurationError: A token that is too short.
    """
    if given:
        if len(given) < SHORTEST_TOKEN or not given.isascii() or not given.isprintable():
            raise ConfigurationError(
                f"found a token of {len(given)} characters in {TOKEN_VARIABLE}, expected at least "
                f"{SHORTEST_TOKEN} printable ASCII characters; `openssl rand -hex 24` makes one"
            )
        return given, False
    if is_loopback(host):
        return None, False
    return secrets.token_urlsafe(32), True


class Guard:
    """Lets through what may pass, as an ASGI middleware.

    Every request must name a host that this server goes by (else a web page elsewhere could reach
    it through a name of its own that points here: DNS rebinding), must be GET or HEAD, and where
    there is a token must show it.

    Args:
        app: What is guarded.
        host: The address that it listens on.
        token: The token, or None for none.
        names: Further host names that it goes by.
    """

    def __init__(
        self, app: ASGIApp, host: str, token: str | None, names: Iterable[str] = ()
    ) -> None:
        self.app = app
        self.token = token
        self.local = is_loopback(host)
        self.names = {"localhost", host.lower(), *(n.lower() for n in names)}
        if not self.local:
            self.names.add(socket.gethostname().lower())
        key = secrets.token_bytes(32)
        self.session = hmac.new(key, (token or "").encode(), hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        from starlette.responses import HTMLResponse, PlainTextResponse, Response

        if scope["type"] != "http":
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                told = {k for k, _ in message["headers"]}
                message["headers"] += [
                    (k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in told
                ]
            await send(message)

        refusal: Response | None = None
        if not self.knows(headers.get("host", "")):
            refusal = PlainTextResponse(
                "421: this server goes by another name; see --dashboard-name\n", 421
            )
        elif scope["method"] not in ("GET", "HEAD"):
            refusal = PlainTextResponse(
                "405: there is nothing to change here\n", 405, {"allow": "GET, HEAD"}
            )
        elif self.token is not None:
            query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if query and self._equal(query, self.token):
                refusal = HTMLResponse(ENTER)
                refusal.set_cookie(
                    self.cookie(scope), self.session, httponly=True, samesite="strict", path="/"
                )
            elif not self.admits(headers, self.cookie(scope)):
                refusal = PlainTextResponse(
                    f"{STRANGER}\n", 401, {"www-authenticate": 'Bearer realm="chpnet-stream"'}
                )
        await (refusal or self.app)(scope, receive, guarded)

    def knows(self, host: str) -> bool:
        """Whether the Host header of a request is a name of this server; the port may differ."""
        name = host.strip().lower()
        if name.startswith("["):
            name = name.partition("]")[0].strip("[]")
        else:
            name = name.partition(":")[0]
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # Nobody can make an address point elsewhere: rebinding needs a name.
        return address.is_loopback or not self.local

    def admits(self, headers: dict[str, str], cookie: str) -> bool:
        """Whether a request shows the token, or the cookie that was given for it."""
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._equal(shown.strip(), self.token or ""):
            return True
        # Cookies know no ports: those of other servers of this host come along, in any form.
        cookies = (one.partition("=") for one in headers.get("cookie", "").split(";"))
        return any(
            n.strip() == cookie and self._equal(v.strip(), self.session) for n, _, v in cookies
        )

    def cookie(self, scope: Scope) -> str:
        """Name of the cookie: of this port, since cookies know no ports."""
        return f"chpnet_view_{(scope.get('server') or ('', 0))[1]}"

    @staticmethod
    def _equal(shown: str, expected: str) -> bool:
        return hmac.compare_digest(shown.encode(), expected.encode())
