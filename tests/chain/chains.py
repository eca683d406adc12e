"""Chains that are right, and parts of which wrong ones are made."""

from pathlib import Path

from chpnet_stream.chain.check import check_chain
from chpnet_stream.chain.report import Report

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "gadgetron"
SHIPPED = sorted(CONFIGS.glob("*.xml"))


def shipped(name: str) -> str:
    return (CONFIGS / f"{name}.xml").read_text(encoding="utf-8")


def changed(name: str, *changes: tuple[str, str]) -> str:
    """A shipped chain in which every text that is found is replaced by another."""
    text = shipped(name)
    for old, new in changes:
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    return text


def check(tmp_path: Path, text: str) -> Report:
    path = tmp_path / "chain.xml"
    path.write_text(text, encoding="utf-8")
    return check_chain(path)


def gadget(name: str, **properties: str) -> str:
    listed = "".join(f'<property name="{k}" value="{v}"/>' for k, v in properties.items())
    return f"<gadget><dll>gadgetron_mricore</dll><classname>{name}</classname>{listed}</gadget>"


def external(kind: str = "acquisitions", **properties: str) -> str:
    listed = "".join(f'<property name="{k}" value="{v}"/>' for k, v in properties.items())
    return (
        f'<external><execute name="chpnet_gadgets.{kind}" target="reconstruct" type="python"/>'
        f"<configuration>{listed}</configuration></external>"
    )


def chain(*nodes: str) -> str:
    """A chain of these nodes, with the usual readers and writer."""
    ports = {
        "reader": ("AcquisitionReader", "WaveformReader"),
        "writer": ("ImageWriter",),
    }
    listed = "".join(
        f"<{kind}s>"
        + "".join(
            f"<{kind}><dll>gadgetron_core_{kind}s</dll><classname>{name}</classname></{kind}>"
            for name in names
        )
        + f"</{kind}s>"
        for kind, names in ports.items()
    )
    stream = "\n".join(nodes)
    return f"<configuration><version>2</version>{listed}<stream>{stream}</stream></configuration>"
