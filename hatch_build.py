"""Build hook: the Gadgetron chains go where an installed Gadgetron looks for them."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GadgetronConfigs(BuildHookInterface):
    """Adds `configs/gadgetron/*.xml` and `gadgets/startup/*.py` to Gadgetron's own folders."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Maps the files that exist in this checkout."""
        shared = build_data["shared_data"]
        for chain in sorted(Path(self.root, "configs", "gadgetron").glob("*.xml")):
            shared[str(chain)] = f"share/gadgetron/config/{chain.name}"
        for module in sorted(Path(self.root, "gadgets", "startup").glob("*.py")):
            shared[str(module)] = f"share/gadgetron/python/{module.name}"
