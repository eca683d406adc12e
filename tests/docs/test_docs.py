"""The documentation says what the code does."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").glob("*.md")]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", CHECKOUT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date() -> None:
    words = [sys.executable, str(CHECKOUT / "docs" / "build.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_option_in_the_pages_exists(build: ModuleType) -> None:
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", build.command_line()))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^.*chpnet-(?:stream|train) .*$", text, flags=re.MULTILINE):
            ours = line[line.index("chpnet-") :]  # what is before it are options of another program
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours):
                assert option in known, f"{page.name}: {line.strip()} has {option}"
