"""requirements.lock names what the package needs, in versions that it takes, with checksums."""

import re
from importlib import import_module
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]
EXTRAS = ("plots", "serve", "mrd2", "dicom")
LOCK = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")


def locked() -> dict[str, list[tuple[str, int]]]:
    """Versions and the number of their checksums, by name (another Python may have another one)."""
    found: dict[str, list[tuple[str, int]]] = {}
    for entry in re.split(r"\n(?=\S)", LOCK):
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", entry)
        if match:
            name = canonicalize_name(match[1])
            found.setdefault(name, []).append((match[2], entry.count("--hash=sha256:")))
    return found


def test_every_dependency_is_locked_in_a_version_that_fits() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    try:
        project = import_module("tomllib").loads(text)["project"]
    except ImportError:  # Python 3.10
        project = import_module("tomli").loads(text)["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    packages = locked()
    for line in wanted:
        requirement = Requirement(line)
        versions = [v for v, _ in packages[canonicalize_name(requirement.name)]]
        assert all(v in requirement.specifier for v in versions), (line, versions)


def test_every_package_has_checksums() -> None:
    packages = locked()
    assert len(packages) > 40
    assert all(count for versions in packages.values() for _, count in versions)


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert "://" not in LOCK
    assert " @ " not in LOCK
