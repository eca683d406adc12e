"""What the written pages say of chains and errors holds."""

import ast
import re
from pathlib import Path

import h5py
import pytest

from chpnet_stream import errors
from tests.chain.chains import SHIPPED, chain, check

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.ChpnetError)
}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def texts(path: Path) -> list[str]:
    """All texts of a module; values inside are {}."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def test_every_error_has_its_place_and_its_status() -> None:
    table = page("errors.md").partition("## In a command")[2]
    told = {
        name: int(row.rstrip(" |").rpartition("|")[2])
        for row in table.splitlines()
        for name in re.findall(r"`(\w+Error)`", row)
    }
    assert told == {n: k.exit_code for n, k in CLASSES.items() if n != "ChpnetError"}


def test_the_texts_of_errors_are_those_of_the_code() -> None:
    known = [
        text
        for package in ("chpnet_stream", "gadgets/chpnet_gadgets")
        for path in (CHECKOUT / package).rglob("*.py")
        for text in texts(path)
    ]
    table = page("errors.md").partition("## In a chain")[2].partition("## ")[0]
    rows = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    assert len(rows) > 10
    for row in rows:
        for quoted in re.findall(r"`([^`]+)`", row):
            for part in re.split(r"\.\.\.|\bX\b", quoted):
                assert any(part.strip() in text for text in known), f"nobody says: {part}"


def test_the_page_lists_the_chains_that_there_are() -> None:
    assert set(re.findall(r"`(chpnet_\w+\.xml)`", page("gadgetron.md"))) == {
        path.name for path in SHIPPED
    }


def test_the_external_node_of_the_page_is_right(tmp_path: Path) -> None:
    node = re.search(r"^ {4}<external>.*?</external>$", page("gadgetron.md"), re.M | re.S)
    assert node is not None
    assert check(tmp_path, chain(node[0])).errors == []


def test_the_meta_of_the_page_are_written() -> None:
    known = texts(CHECKOUT / "chpnet_stream" / "session.py")
    named = set(re.findall(r"`(Chpnet\w+)`", page("gadgetron.md")))
    assert "ChpnetFallback" in named
    assert named <= set(known)


def test_the_code_of_the_page_takes_the_version_out(
    tmp_path: Path, small_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n(.*?)```", page("gadgetron.md"), re.S)
    assert code is not None
    path = tmp_path / "scan.h5"
    path.write_bytes(small_scan.read_bytes())
    with h5py.File(path, "r+") as file:
        before = file["dataset/xml"][0].decode()
        marked = re.sub(r"(<ismrmrdHeader[^>]*>)", r"\1<version>8</version>", before, count=1)
        file["dataset/xml"][0] = marked
    monkeypatch.chdir(tmp_path)
    exec(compile(code[1], "gadgetron.md", "exec"), {})  # noqa: S102 - our own page
    with h5py.File(path) as file:
        assert file["dataset/xml"][0].decode() == before
