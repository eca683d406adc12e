import sys
from pathlib import Path

import pytest

from chpnet_stream.chain import installed
from chpnet_stream.chain.document import read_document
from chpnet_stream.chain.installed import about, find_chain, installed_chains
from chpnet_stream.errors import ConfigurationError
from tests.chain.chains import SHIPPED


def test_all_shipped_chains_are_found_by_name() -> None:
    assert set(installed_chains()) == {path.stem for path in SHIPPED}
    for path in SHIPPED:
        assert find_chain(path.stem).name == find_chain(path.name).name == path.name


def test_every_shipped_chain_says_what_it_does() -> None:
    for path in SHIPPED:
        sentence = about(read_document(path).comment)
        assert 20 < len(sentence) < 120, path.name


def test_gadgetron_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "share" / "gadgetron" / "config"
    folder.mkdir(parents=True)
    mine = folder / "chpnet_cartesian.xml"
    mine.write_text("<configuration/>")
    other = folder / "default.xml"
    other.write_text("<configuration/>")
    monkeypatch.setenv("GADGETRON_HOME", str(tmp_path))
    assert find_chain("chpnet_cartesian") == mine
    assert find_chain("default") == other
    assert "default" not in installed_chains()


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.xml"
    path.write_text("<configuration/>")
    assert find_chain(str(path)) == path
    monkeypatch.chdir(tmp_path)
    assert find_chain("mine.xml") == Path("mine.xml")


def test_an_unknown_chain_suggests_the_near_one() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'chpnet_cartesian'"):
        find_chain("chpnet_cartesan.xml")


@pytest.mark.parametrize("packages", ["dist-packages", "site-packages"])
def test_chains_are_found_where_pip_of_a_systems_python_puts_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packages: str
) -> None:
    """Beside /usr, which Python calls its prefix: /usr/local, or ~/.local."""
    folder = tmp_path / "share" / "gadgetron" / "config"
    folder.mkdir(parents=True)
    for path in SHIPPED:
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.delenv("GADGETRON_HOME", raising=False)
    monkeypatch.setattr(installed, "CHECKOUT", tmp_path / "none")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "usr"))
    monkeypatch.setattr(installed, "SITE", tmp_path / "lib" / "python3.10" / packages)
    assert {path.parent for path in installed_chains().values()} == {folder}
    assert find_chain("chpnet_cartesian") == folder / "chpnet_cartesian.xml"
