"""Python and packages: what is there against what is needed."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from chpnet_stream.doctor.finding import Finding

DISTRIBUTION = "chpnet-stream"
EXTRAS = {
    "serve": "the live view and metrics of serve and gadget",
    "mrd2": "MRD v2 in pipes",
    "plots": "pictures: offline --png and --compare",
    "openvino": "the OpenVINO engine",
    "tensorrt": "the TensorRT engine, on NVIDIA GPUs",
    "dicom": "DICOM",
    "train": "training (chpnet-train)",
}


def package_findings() -> Iterator[Finding]:
    """Python, the packages that are needed, and the extras."""
    try:
        needed = metadata.requires(DISTRIBUTION) or []
        wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        yield Finding(
            "python",
            DISTRIBUTION,
            "fail",
            "not installed: it runs from a folder of sources",
            "pip install -e . in the checkout",
        )
        return
    yield _python(wanted)
    yield from _packages(needed)


def _python(wanted: str) -> Finding:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Finding("python", "Python", "ok", f"{version} at {sys.executable}")
    return Finding(
        "python",
        "Python",
        "fail",
        f"{version}, expected {wanted}",
        "make a virtual environment with one of these versions",
    )


def _packages(needed: list[str]) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    extras: dict[str, list[str]] = {name: [] for name in EXTRAS}
    for text in needed:
        requirement = Requirement(text)
        marker = requirement.marker
        extra = next((e for e in EXTRAS if marker and f'extra == "{e}"' in str(marker)), None)
        if marker is not None and extra is None:
            continue  # of test or dev
        if marker is not None and not marker.evaluate({"extra": extra or ""}):
            continue
        fault = _fault(requirement)
        if extra is not None:
            extras[extra] += [fault] if fault else [""]
        elif fault is None:
            version = metadata.version(requirement.name)
            yield Finding("python", requirement.name, "ok", version)
        else:
            yield Finding(
                "python",
                requirement.name,
                "fail",
                fault,
                f"pip install '{requirement.name}{requirement.specifier}'",
            )
    for extra, faults in extras.items():
        missing = [fault for fault in faults if fault]
        if not faults:
            continue
        what = EXTRAS[extra]
        if not missing:
            yield Finding("python", f"extra {extra}", "ok", what)
        else:
            yield Finding(
                "python",
                f"extra {extra}",
                "info",
                f"not whole ({'; '.join(missing)}): {what}",
                f"if wanted: pip install '{DISTRIBUTION}[{extra}]'",
            )


def _fault(requirement: object) -> str | None:
    """What is wrong with an installed package; None where nothing is."""
    from packaging.requirements import Requirement

    assert isinstance(requirement, Requirement)  # noqa: S101 - tells mypy
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} {version} found, expected {requirement.specifier}"
