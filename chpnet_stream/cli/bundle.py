"""Options that several commands share, handed over as one argument."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def bundled(kind: type, name: str, options: Sequence[Callable[[Any], Any]]) -> Callable[[F], F]:
    """Adds options to a command, which gets them as one argument.

    Args:
        kind: A dataclass with a field for every option.
        name: Name of the argument.
        options: Decorators of click, in the order of the help.
    """
    names = [field.name for field in fields(kind)]

    def add(command: F) -> F:
        @functools.wraps(command)
        def with_bundle(*args: Any, **kwargs: Any) -> Any:
            values = {field: kwargs.pop(field) for field in names}
            return command(*args, **{name: kind(**values)}, **kwargs)

        made: Any = with_bundle
        for option in reversed(options):
            made = option(made)
        return made

    return add
