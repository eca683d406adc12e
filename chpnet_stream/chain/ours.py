"""The gadgets of this project in a chain: module, properties, model."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chpnet_stream.chain.model import Connect, Execute, External
from chpnet_stream.chain.report import Report
from chpnet_stream.errors import ConfigurationError, ModelError
from chpnet_stream.near import hint
from chpnet_stream.schema import EVERY, SETTINGS
from chpnet_stream.whole_number import whole_number

if TYPE_CHECKING:
    from chpnet_stream.options import ReconstructionOptions

PACKAGE = "chpnet_gadgets"
TARGET = "reconstruct"
TASKS = {"acquisitions": "kspace", "buffers": "kspace", "images": "superres"}
"""What the model of a gadget must be for."""

GADGETRON_PORT = "9002"
PRIVILEGED = range(1, 1024)


def is_ours(external: External) -> bool:
    """Whether a node is a gadget of this project; every `<connect>` is taken for one."""
    action = external.action
    return isinstance(action, Connect) or action.module.partition(".")[0] == PACKAGE


def kind_of(external: External) -> str | None:
    """acquisitions, buffers or images; None where only the server that listens knows."""
    if isinstance(external.action, Connect):
        return None
    name = external.action.module.rpartition(".")[2]
    return name if name in EVERY else None


def check_action(external: External, report: Report) -> None:
    """Check what is started, or where Gadgetron connects to."""
    action = external.action
    if isinstance(action, Connect):
        _check_port(action, report)
    elif is_ours(external):
        _check_module(action, report)
        _check_python(action, report)
    elif not action.module:
        report.error(action.line, 'expected <execute name="MODULE" .../>, found no name')


def _check_port(action: Connect, report: Report) -> None:
    if action.port == GADGETRON_PORT:
        report.error(
            action.line,
            f"port {action.port} is Gadgetron's own, expected that of `chpnet-stream gadget`, "
            "18000 unless it was told another",
        )
    elif whole_number(action.port) in PRIVILEGED:
        report.warning(action.line, f"port {action.port} is one that only root can listen on")


def _check_module(action: Execute, report: Report) -> None:
    line = action.line
    if action.type != "python":
        report.error(line, f"found type '{action.type}', expected python")
    known = [f"{PACKAGE}.{kind}" for kind in EVERY]
    if action.module not in known:
        report.error(line, f"found the module '{action.module}'; {hint(action.module, known)}")
        return
    try:
        module = importlib.import_module(action.module)
    except ImportError as error:
        report.error(
            line, f"{action.module} can't be imported ({error}); install chpnet-stream here"
        )
        return
    if not callable(getattr(module, action.target, None)):
        report.error(
            line, f"found the target '{action.target}' in {action.module}, expected '{TARGET}'"
        )


def _check_python(action: Execute, report: Report) -> None:
    """Gadgetron takes the first `python` on its PATH, else `python3`."""
    first = shutil.which("python") or shutil.which("python3")
    if first is None:
        report.warning(
            action.line, "there is no `python` on the PATH here, and Gadgetron needs one"
        )
    elif Path(first).parent.resolve() != Path(sys.executable).parent.resolve():
        report.warning(
            action.line,
            f"the first python on the PATH here is {first}, and chpnet-stream is in {sys.prefix}; "
            "start Gadgetron with that environment activated",
        )


def check_properties(external: External, report: Report) -> ReconstructionOptions | None:
    """Read the properties as the gadget will; None where it will refuse them."""
    from chpnet_stream.options import ReconstructionOptions

    try:
        options = ReconstructionOptions.from_properties(dict(external.properties))
    except ConfigurationError as error:
        report.error(external.line, str(error))
        return None
    kind = kind_of(external)
    for name, _ in external.properties:
        gadgets = SETTINGS[name].gadgets
        if kind is not None and kind not in gadgets:
            report.warning(
                external.line,
                f"property {name} means nothing to the {kind} gadget, only to "
                f"{' and '.join(gadgets)}; remove it",
            )
    return options


def check_model(
    external: External, kind: str, options: ReconstructionOptions, report: Report
) -> None:
    """The model is there, whole, and for the task of the gadget.

    Args:
        external: The node.
        kind: What it is sent: acquisitions, buffers or images.
        options: Its properties.
        report: Where faults are noted.
    """
    from chpnet_stream.network.weights import find_model, installed_models

    if options.method != "chpnet" and kind != "images":
        return
    named = "model" in dict(external.properties)
    if isinstance(external.action, Connect) and not named:
        return  # the server's own
    task = TASKS[kind]
    name = options.model
    if kind == "images" and not named:
        fit = [m for m in installed_models() if find_model(m).card.student.task == task]
        if not fit:
            note = report.error if options.on_error == "error" else report.warning
            note(
                external.line,
                "no model for the task 'superres' is installed: "
                + (
                    "with on_error=error the scan ends with an error"
                    if options.on_error == "error"
                    else "images go on unchanged"
                )
                + "; name a card by the property model",
            )
            return
        name = fit[0]
    if name.endswith(".json") and not os.path.isabs(name):  # noqa: PTH117 - of a text, not a path
        report.warning(
            external.line,
            f"model {name} is looked for in the folder that Gadgetron runs in; give the whole path",
        )
    remote = isinstance(external.action, Connect) and external.action.address
    note = report.warning if remote else report.error
    try:
        model = find_model(name)
        model.verify()
    except ModelError as error:
        note(external.line, f"{error}{' (the server may have it)' if remote else ''}")
        return
    if model.card.student.task != task:
        note(
            external.line,
            f"model {model.card.name} is for the task '{model.card.student.task}', expected one "
            f"for '{task}' where {kind} come in",
        )
