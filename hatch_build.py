"""Build hook: the Gadgetron chains go where an installed Gadgetron looks for them."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GadgetronConfigs(BuildHookInterface):
    """Adds every `configs/gadgetron/*.xml` to the wheel as `share/gadgetron/config/*.xml`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Maps the chains that exist in this checkout; a checkout without chains builds too."""
        for chain in sorted(Path(self.root, "configs", "gadgetron").glob("*.xml")):
            build_data["shared_data"][str(chain)] = f"share/gadgetron/config/{chain.name}"
