"""Options of a command from the schema of the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from chpnet_stream.schema import SETTINGS

F = TypeVar("F", bound=Callable[..., Any])


def setting_option(name: str, metavar: str | None = None) -> Callable[[F], F]:
    """The option of a setting: its name, type, default and help.

    Args:
        name: Name of the setting.
        metavar: How its value is called in the help.
    """
    setting = SETTINGS[name]
    flag = f"--{name.replace('_', '-')}"
    if isinstance(setting.default, bool):
        return click.option(flag, is_flag=True, help=setting.description)
    kind: Any = click.STRING
    if setting.choices:
        kind = click.Choice(list(setting.choices), case_sensitive=False)
    elif not isinstance(setting.default, str):
        whole = isinstance(setting.default, int)
        kind = (click.IntRange if whole else click.FloatRange)(setting.least, setting.most)
    return click.option(
        flag,
        type=kind,
        default=setting.default,
        show_default=True,
        metavar=metavar,
        help=setting.description,
    )
