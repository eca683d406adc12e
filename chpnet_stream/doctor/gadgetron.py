"""Gadgetron, and the programs that go with it: found or not, and whether they find us."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chpnet_stream.chain.installed import CHECKOUT, chain_folders, installed_chains
from chpnet_stream.doctor.finding import Finding
from chpnet_stream.doctor.run import answer_of

TOOLS = {
    "bart": ("comparisons in tests", "apt-get install bart", "version"),
    "ismrmrd_generate_cartesian_shepp_logan": (
        "test scans",
        "apt-get install ismrmrd-tools",
        None,
    ),
    "ismrmrd_hdf5_to_stream": ("scans into pipes", "conda install ismrmrd", None),
}

ASK = (
    "import sys\n"
    "try:\n"
    "    import gadgetron, chpnet_gadgets.acquisitions\n"
    "except Exception as error:\n"
    "    print(f'{type(error).__name__}: {error}')\n"
    "    sys.exit(1)\n"
    "print(sys.version.split()[0])\n"
)


def gadgetron_findings() -> Iterator[Finding]:
    """The server, its client, its chains, and the Python that it would start."""
    server = shutil.which("gadgetron")
    yield _program("gadgetron", server)
    yield _program("gadgetron_ismrmrd_client", shutil.which("gadgetron_ismrmrd_client"))
    yield _chains(server)
    yield _python(server)


def tool_findings() -> Iterator[Finding]:
    """Programs that are good to have."""
    for name, (use, advice, question) in TOOLS.items():
        found = shutil.which(name)
        if found is None:
            yield Finding("tools", name, "info", f"not found: {use}", f"if wanted: {advice}")
            continue
        version = ""
        if question:
            status, text = answer_of([found, question])
            version = f" {text.splitlines()[0]}" if status == 0 and text else ""
        yield Finding("tools", name, "ok", f"{found}{version}")


def _program(name: str, found: str | None) -> Finding:
    if found is None:
        return Finding(
            "gadgetron",
            name,
            "info",
            "not found on PATH",
            "only needed where Gadgetron runs: activate its environment, and ask again there",
        )
    version = ""
    if name == "gadgetron":
        _, text = answer_of([found, "--info"])
        lines = [line.strip(" -") for line in text.splitlines() if "ersion" in line]
        version = f", {lines[0]}" if lines else ""
    return Finding("gadgetron", name, "ok", f"{found}{version}")


def _chains(server: str | None) -> Finding:
    """Whether Gadgetron finds our chains, in the state that this version has them in."""
    chains = installed_chains()
    folders = [folder for folder in chain_folders() if folder != CHECKOUT]
    where = ", ".join(map(str, folders)) or "no share/gadgetron/config"
    seen = {name: path for name, path in chains.items() if path.parent != CHECKOUT}
    old = [
        name
        for name, path in seen.items()
        if (CHECKOUT / path.name).is_file()
        and (CHECKOUT / path.name).read_bytes() != path.read_bytes()
    ]
    if server is not None:
        home = os.environ.get("GADGETRON_HOME")
        root = Path(home) if home else Path(server).resolve().parent.parent
        config = root / "share" / "gadgetron" / "config"
        missing = [name for name in chains if not (config / f"{name}.xml").is_file()]
        if missing:
            return Finding(
                "gadgetron",
                "chains",
                "warn",
                f"{len(missing)} of our {len(chains)} chains are not in {config}",
                "pip install chpnet-stream in Gadgetron's environment, or send a chain along: "
                "gadgetron_ismrmrd_client -C FILE",
            )
        where = str(config)
    if old:
        return Finding(
            "gadgetron",
            "chains",
            "warn",
            f"{', '.join(old)} in {where} are of another version",
            "install chpnet-stream again, or keep them under a name of your own",
        )
    level = "ok" if chains else "warn"
    found = f"{len(chains)} chains" + (f" in {where}" if seen else " in the sources")
    return Finding("gadgetron", "chains", level, found)  # type: ignore[arg-type]


def _python(server: str | None) -> Finding:
    """The first `python` on PATH, else `python3`, is what Gadgetron starts for `<execute>`."""
    python = shutil.which("python") or shutil.which("python3")
    needed = server is not None
    if python is None:
        return Finding(
            "gadgetron",
            "python of <execute>",
            "warn" if needed else "info",
            "no python on PATH",
            "Gadgetron starts `python`, else `python3`: put the environment with chpnet-stream "
            "first on its PATH",
        )
    with tempfile.TemporaryDirectory() as folder:
        status, text = answer_of([python, "-c", ASK], 60, folder=Path(folder))
    if status == 0:
        found = f"{python} ({text}) can import chpnet_gadgets"
        return Finding("gadgetron", "python of <execute>", "ok", found)
    return Finding(
        "gadgetron",
        "python of <execute>",
        "warn" if needed else "info",
        f"{python} can't import the gadgets: {text.splitlines()[-1] if text else status}",
        "pip install chpnet-stream with that python, or put its environment first on PATH",
    )
