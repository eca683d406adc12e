"""TensorRT 10 and 11 and TensorRT for RTX by one door: the same calls under two names."""

from __future__ import annotations

import importlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

from chpnet_stream.engines.engine import first_line
from chpnet_stream.engines.failures import FOREIGN, NotInstalledError, failure
from chpnet_stream.errors import EngineError

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
EXTRAS = {"tensorrt": "chpnet-stream[tensorrt]", "tensorrt-rtx": "chpnet-stream[tensorrt-rtx]"}
OLDEST = {"tensorrt": 10, "tensorrt-rtx": 1}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorRTPackage:
    """An installed package.

    Attributes:
        name: `tensorrt` or `tensorrt-rtx`.
        version: Its version.
        module: Its Python module; both have the same classes.
        log: Collects what it says; hand it to everything that wants a logger.
    """

    name: str
    version: str
    module: Any
    log: Any

    def complaint(self) -> str:
        """The last errors that it has said since the last call, newest first, in one line."""
        return self.log.take()

    def runtime(self) -> Any:
        """What loads plans.

        Raises:
            EngineError: As `_made` says.
        """
        return self._made("Runtime")

    def builder(self) -> Any:
        """What compiles graphs.

        Raises:
            EngineError: As `_made` says.
        """
        return self._made("Builder")

    def _made(self, kind: str) -> Any:
        """One of the classes that look for the GPU and its driver.

        Raises:
            EngineError: If these don't suit it, in its own words: the binding only says that it
                has none.
        """
        self.complaint()
        try:
            return getattr(self.module, kind)(self.log)
        except FOREIGN as error:
            raise failure(
                f"{self.name} {self.version} can't begin", self.complaint() or first_line(error)
            ) from error

    def compute_capability(self, target: str) -> Any:
        """Its constant of a target.

        Raises:
            EngineError: If this version compiles for no such GPU.
        """
        known = self.module.ComputeCapability.__members__
        found = known.get(target.replace("sm_", "SM"))
        if found is None:
            names = " ".join(n.replace("SM", "sm_") for n in known if n.startswith("SM"))
            raise EngineError(f"{self.name} {self.version}: no target {target}; it has {names}")
        return found


def load_package(name: str) -> TensorRTPackage:
    """Import a package.

    Args:
        name: `tensorrt` or `tensorrt-rtx`.

    Raises:
        NotInstalledError: If it is not installed.
        EngineError: If its libraries can't be loaded, or it is too old.
    """
    try:
        module = importlib.import_module(MODULES[name])
        log = _make_log(name, module)
    except (ImportError, *FOREIGN) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == MODULES[name]
        raise (NotInstalledError if missing else EngineError)(
            f"{name}: expected the package {MODULES[name]}, found: {first_line(error)}; "
            f"pip install '{EXTRAS[name]}'"
        ) from error
    version = str(module.__version__)
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) < OLDEST[name]:
        raise EngineError(
            f"{name}: expected version {OLDEST[name]} or newer, found {version}; "
            f"pip install --upgrade '{EXTRAS[name]}'"
        )
    return TensorRTPackage(name, version, module, log)


def _make_log(name: str, module: Any) -> Any:
    class Log(module.ILogger):
        """Errors are kept for our own messages, warnings go to the program's log."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=2)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.Severity.ERROR:
                self._errors.append(message)
            else:
                level = module.ILogger.Severity.WARNING
                logger.log(
                    logging.INFO if severity <= level else logging.DEBUG, "%s: %s", name, message
                )

        def take(self) -> str:
            errors = [" ".join(text.split()) for text in reversed(self._errors)]
            self._errors.clear()
            return "; ".join(errors)

    return Log()
