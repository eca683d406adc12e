"""What an image installs: `requirements.lock`, for a CPU or for NVIDIA GPUs.

`python docker/lock_for.py cpu|cuda requirements.lock > packages.lock`

PyTorch on PyPI needs CUDA's libraries, gigabytes that a machine without a GPU has no use for. For a
CPU they are left out, and PyTorch is that of its own index, pinned by its checksum as everything
else. For GPUs TensorRT for RTX is added (`tensorrt-rtx.lock`). Needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
VARIANTS = ("cpu", "cuda")
GPU_ONLY = re.compile(r"(nvidia-|cuda-|triton$|torch$)")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_CHECKSUMS = {
    # Python 3.11 on x86-64, as the Dockerfile's; `pip hash` of the wheel tells another one
    "2.13.0": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",),
}


def packages(text: str) -> dict[str, str]:
    """Entries of a lock file, each with its checksums, by their first lines."""
    found = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        match = re.match(r"([A-Za-z0-9._-]+)==", entry)
        if match:
            found[entry.partition("\\")[0].strip()] = entry
    return found


def lock_for(variant: str, text: str) -> str:
    """The lock file of an image.

    Args:
        variant: "cpu" or "cuda".
        text: Content of `requirements.lock`.

    Raises:
        SystemExit: There is no such variant, or no checksum of PyTorch for a CPU in this version.
    """
    if variant not in VARIANTS:
        raise SystemExit(f"expected one of {', '.join(VARIANTS)}, found '{variant}'")
    entries = packages(text)
    if variant == "cuda":
        there = {head.partition("==")[0] for head in entries}
        more = packages((FOLDER / "tensorrt-rtx.lock").read_text(encoding="utf-8"))
        added = [entry for head, entry in more.items() if head.partition("==")[0] not in there]
        return "\n".join((*entries.values(), *added)) + "\n"
    versions = [head.partition("==")[2] for head in entries if head.startswith("torch==")]
    version = versions[0].split()[0] if versions else "no version"
    if version not in TORCH_CHECKSUMS:
        raise SystemExit(
            f"found torch {version} in the lock file, expected one whose CPU build has a checksum "
            f"in {Path(__file__).name}: {', '.join(TORCH_CHECKSUMS)}; add that of the wheel from "
            f"{TORCH_INDEX}"
        )
    kept = [entry for head, entry in entries.items() if not GPU_ONLY.match(head.partition("==")[0])]
    checksums = "".join(f" \\\n    --hash=sha256:{c}" for c in TORCH_CHECKSUMS[version])
    torch = f"torch=={version}+cpu{checksums}"
    return "\n".join((f"--extra-index-url {TORCH_INDEX}", *kept, torch)) + "\n"


if __name__ == "__main__":
    sys.stdout.write(lock_for(sys.argv[1], Path(sys.argv[2]).read_text(encoding="utf-8")))
