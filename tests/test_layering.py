"""Who may import whom: data walks one way through the house."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

# Folder or module -> what it must never import.
FORBIDDEN = {
    "chpnet_stream": ["chpnet_training", "chpnet_gadgets", "tests"],
    "chpnet_stream/physics": ["chpnet_stream.mrd", "chpnet_stream.scan", "ismrmrd", "socket"],
    "chpnet_stream/network": ["chpnet_stream.mrd", "chpnet_stream.scan", "ismrmrd", "socket"],
    "chpnet_stream/engines": ["chpnet_stream.mrd", "chpnet_stream.scan", "ismrmrd", "socket"],
    "chpnet_stream/mrd": ["torch", "chpnet_stream.physics", "chpnet_stream.network"],
    "chpnet_stream/client": ["torch", "chpnet_stream.session", "chpnet_stream.streaming"],
    "chpnet_stream/streaming": [
        *("chpnet_gadgets", "chpnet_stream.cli", "chpnet_stream.dashboard", "gadgetron"),
    ],
    "chpnet_stream/dashboard": ["torch", "chpnet_stream.cli", "chpnet_stream.session"],
    "chpnet_stream/doctor": ["chpnet_stream.cli", "chpnet_stream.dashboard"],
    "gadgets/chpnet_gadgets": ["torch", "numpy", "chpnet_training", "chpnet_stream.session"],
    "chpnet_stream/simulation": ["torch", "chpnet_stream.network", "chpnet_stream.session"],
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_nothing_calls_back_up(room: str) -> None:
    modules = sorted((CHECKOUT / room).rglob("*.py"))
    assert modules
    wrong = [
        f"{path.relative_to(CHECKOUT)} imports {name}"
        for path in modules
        for name in imports(path)
        for banned in FORBIDDEN[room]
        if name == banned or name.startswith(f"{banned}.")
    ]
    assert not wrong
