"""The label by which OpenRecon knows what an image wants: JSON in base64.

`docker build --label "$(python docker/openrecon_label.py)" .` An image without it is a plain MRD
server. Needs nothing but Python.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path

NAME = "com.siemens-healthineers.magneticresonance.openrecon.metadata:1.1.0"
FOLDER = Path(__file__).resolve().parent


def label() -> str:
    """`NAME=BASE64`.

    Raises:
        SystemExit: The file tells another version than the package.
    """
    told = json.loads((FOLDER / "openrecon.json").read_text(encoding="utf-8"))
    text = (FOLDER.parent / "chpnet_stream" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    version = found[1] if found else "none"
    if told["general"]["version"] != version:
        raise SystemExit(
            f"openrecon.json: expected version {version}, found {told['general']['version']}"
        )
    return f"{NAME}={base64.b64encode(json.dumps(told).encode()).decode()}"


if __name__ == "__main__":
    sys.stdout.write(label() + "\n")
