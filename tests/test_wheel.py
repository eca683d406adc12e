"""What a built wheel holds beside the packages."""

import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def test_the_wheel_puts_the_chains_where_gadgetron_looks(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(CHECKOUT)).build(
        directory=str(tmp_path), versions=["standard"]
    )
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        folder = next(n.partition("/")[0] for n in names if "/data/share/gadgetron/" in n)
        for chain in (CHECKOUT / "configs" / "gadgetron").glob("*.xml"):
            inside = f"{folder}/data/share/gadgetron/config/{chain.name}"
            assert archive.read(inside) == chain.read_bytes()
        startup = CHECKOUT / "gadgets" / "startup" / "sitecustomize.py"
        inside = f"{folder}/data/share/gadgetron/python/{startup.name}"
        assert archive.read(inside) == startup.read_bytes()
    assert "sitecustomize.py" not in names  # never where every Python would find it
    assert "chpnet_gadgets/acquisitions.py" in names
    assert "chpnet_stream/models/chpnet-rt.json" in names
    page = CHECKOUT / "chpnet_stream" / "dashboard" / "static"
    for path in page.iterdir():
        assert archive_has(built, f"chpnet_stream/dashboard/static/{path.name}", path)


def archive_has(built: str, name: str, path: Path) -> bool:
    with zipfile.ZipFile(built) as archive:
        return archive.read(name) == path.read_bytes()
