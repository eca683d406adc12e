"""Who may look: over real HTTP."""

import re
from collections.abc import Iterator

import pytest

from chpnet_stream.dashboard.guard import POLICY, Guard, is_loopback, token_for
from chpnet_stream.errors import ConfigurationError
from tests.dashboard.serving import Watched

TOKEN = "a-token-for-this-test"  # noqa: S105


@pytest.fixture(scope="module")
def local() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


@pytest.fixture(scope="module")
def guarded() -> Iterator[Watched]:
    with Watched(token=TOKEN) as watched:
        yield watched


PATHS = ("/", "/static/main.js", "/api/scans", "/api/pictures/1", "/metrics", "/healthz")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_keeps_the_browser_in_bounds(local: Watched, path: str) -> None:
    _, headers, _ = local.get(path)
    policy = headers["content-security-policy"]
    assert policy == POLICY
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_the_page_needs_nothing_from_elsewhere(local: Watched) -> None:
    status, headers, page = local.get("/")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    names = set(re.findall(r'(?:src|href)="([^"#]+)"', page.decode()))
    assert "/static/main.js" in names
    seen: set[str] = set()
    while names:
        name = names.pop()
        seen.add(name)
        status, _, body = local.get(name)
        assert status == 200, name
        text = body.decode()
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert not re.search(r"\bon\w+=|style=|<script>", text) or name.endswith(".js"), name
        if name.endswith(".js"):
            assert "innerHTML" not in text
            assert "eval(" not in text
            names |= {f"/static/{n}" for n in re.findall(r'from "\./([\w.]+)"', text)} - seen
    assert {"/static/viewer.js", "/static/style.css", "/static/pixels.js"} <= seen


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost:8080", True),  # through a tunnel
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("LOCALHOST", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("192.0.2.7", False),
        ("", False),
    ],
)
def test_names_that_point_here_by_rebinding_are_refused(
    local: Watched, host: str, known: bool
) -> None:
    status, _, body = local.get("/api/scans", host=host)
    assert status == (200 if known else 421)
    assert known or b"scans" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_can_only_be_read(local: Watched, method: str) -> None:
    status, headers, _ = local.get("/api/scans", method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/x.js"])
def test_other_files_are_not_given_out(local: Watched, path: str) -> None:
    assert local.get(path)[0] == 404


@pytest.mark.parametrize("number", ["0", "9" * 30, "9" * 5000, "-1", "1.5", "x"])
def test_pictures_that_can_not_be_are_not_there(
    local: Watched, number: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert local.get(f"/api/pictures/{number}")[0] == 404
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


@pytest.mark.parametrize("path", [*PATHS, "/api/events"])
def test_nothing_without_the_token(guarded: Watched, path: str) -> None:
    status, headers, body = guarded.get(path)
    assert status == 401
    assert headers["www-authenticate"].startswith("Bearer")
    assert TOKEN.encode() not in body


@pytest.mark.parametrize("shown", ["", TOKEN[:-1], f"{TOKEN}x", "ü"])
def test_wrong_tokens(guarded: Watched, shown: str) -> None:
    assert guarded.get("/metrics", authorization=f"Bearer {shown}".encode())[0] == 401  # type: ignore[arg-type]
    assert guarded.get(f"/?token={shown.encode().hex()}")[0] == 401


def test_programs_send_the_token_as_bearer(guarded: Watched) -> None:
    status, _, body = guarded.get("/metrics", authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert b"chpnet_scans_total" in body


def test_people_open_it_once_and_have_a_cookie(guarded: Watched) -> None:
    status, headers, page = guarded.get(f"/?token={TOKEN}")
    assert status == 200
    assert b'url=/"' in page  # on to the page, by a move of its own: the cookie is strict
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    value = cookie.partition(";")[0]
    assert guarded.get("/api/scans", cookie=value)[0] == 200
    assert guarded.get("/api/scans", cookie=f"{value[:-4]}0000")[0] == 401
    assert guarded.get("/api/scans", cookie="=;;=,x y; \x7f")[0] == 401
    others = 'theirs={"a": [1, 2]}; bad name=1;'  # of other servers of this machine
    assert guarded.get("/api/scans", cookie=f"{others} {value}")[0] == 200


def test_beyond_this_machine_there_is_a_token_and_names_are_known() -> None:
    with Watched(host="0.0.0.0", names=["recon.example"]) as watched:  # noqa: S104 - that is the test
        assert watched.page.token_made
        assert watched.page.token is not None
        assert len(watched.page.token) >= 32
        bearer = f"Bearer {watched.page.token}"
        for host, status in (
            ("recon.example:9100", 200),
            ("192.0.2.7", 200),  # an address can't be rebound
            ("evil.example", 421),
        ):
            assert watched.get("/healthz", host=host, authorization=bearer)[0] == status
        assert watched.get("/healthz")[0] == 401


def test_tokens() -> None:
    assert token_for("127.0.0.1", None) == (None, False)
    made, new = token_for("10.0.0.1", None)
    assert new
    assert made != token_for("10.0.0.1", None)[0]
    assert token_for("127.0.0.1", TOKEN) == (TOKEN, False)
    with pytest.raises(ConfigurationError, match="expected at least 16 printable"):
        token_for("127.0.0.1", "short")
    with pytest.raises(ConfigurationError, match="CHPNET_DASHBOARD_TOKEN"):
        token_for("127.0.0.1", "sixteen letters\n!")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "recon.example", ""])  # noqa: S104
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_the_guard_speaks_http_only() -> None:
    import asyncio

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("it was let through")

    guard = Guard(app, "127.0.0.1", None)  # type: ignore[arg-type]
    asyncio.run(guard({"type": "websocket"}, None, None))  # type: ignore[arg-type]
