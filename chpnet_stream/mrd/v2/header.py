"""The header of a scan between MRD v1 (XML) and v2.

Both have the same elements; only the spelling differs (`systemFieldStrength_T` and
`system_field_strength_t`), so elements find each other by their letters and digits. Numbers that v2
keeps as float32 come back as the shortest decimal that stands for them: 0.793 stays 0.793.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import logging
import types
import typing
from typing import Any

import numpy as np

from chpnet_stream.errors import HeaderError
from chpnet_stream.mrd.header import ScanHeader

NO_ACCELERATION = "noacceleration"
"""A calibrationMode that v1 has no word for: it is left out there."""

logger = logging.getLogger(__name__)


def header_to_v2(header: ScanHeader) -> Any:
    """The header as `mrd.Header`.

    Raises:
        HeaderError: The ismrmrd package can't parse it.
    """
    import mrd

    return _to_v2(header.ismrmrd, mrd.Header)


def header_to_xml(header: Any) -> bytes:
    """An `mrd.Header` as the XML of v1.

    Raises:
        HeaderError: It lacks what v1 must have.
    """
    from ismrmrd import xsd

    try:
        made = _to_v1(header, xsd.ismrmrdHeader)
        return str(xsd.ToXML(made, encoding="utf-8")).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise HeaderError(
            f"the MRD v2 header can't be told in v1 ({error}), expected what its schema asks for; "
            "fix the sender"
        ) from error


def plain(name: str) -> str:
    """A name without case and underscores."""
    return name.replace("_", "").lower()


def v2_fields(kind: Any) -> dict[str, tuple[str, Any]]:
    """Fields of a class of `mrd.types` by plain name: their own name, and their type."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {plain(name): (name, hint) for name, hint in hints.items()}


def v1_fields(kind: Any) -> dict[str, tuple[str, Any]]:
    """The same of a class of `ismrmrd.xsd`."""
    hints = typing.get_type_hints(kind)
    return {plain(f.name): (f.name, hints[f.name]) for f in dataclasses.fields(kind)}


def inner_type(hint: Any) -> tuple[Any, bool]:
    """The type of a value that may be None or in a list, and whether it is in a list."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return hint, False
    if origin in (typing.Union, types.UnionType):
        (inner,) = (part for part in typing.get_args(hint) if part is not type(None))
        return inner_type(inner)
    if origin is list:
        return typing.get_args(hint)[0], True
    return hint, False


def _to_v2(value: Any, kind: Any) -> Any:
    """A record of `ismrmrd.xsd` as one of `mrd.types`."""
    theirs = v1_fields(type(value))
    made = {}
    for key, (name, hint) in v2_fields(kind).items():
        if key not in theirs:
            continue
        found = getattr(value, theirs[key][0])
        inner, many = inner_type(hint)
        if found is None or (many and not found):
            continue
        made[name] = [_value_to_v2(v, inner) for v in found] if many else _value_to_v2(found, inner)
    return kind(**made)


def _value_to_v2(value: Any, kind: Any) -> Any:
    import mrd

    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        text = str(value.value) if isinstance(value, enum.Enum) else str(value)
        return next(member for member in kind if plain(member.name) == plain(text))
    if kind is datetime.date:
        return value.to_date()
    if kind is mrd.Time:
        if value.offset is not None:
            logger.warning("a time of the header has a time zone, which MRD v2 can't tell")
        nanoseconds = value.fractional_second
        return mrd.Time.from_components(value.hour, value.minute, value.second, nanoseconds)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return _to_v2(value, kind) if dataclasses.is_dataclass(value) else value


def _to_v1(value: Any, kind: Any) -> Any:
    """A record of `mrd.types` as one of `ismrmrd.xsd`."""
    theirs = v2_fields(type(value))
    made = {}
    for key, (name, hint) in v1_fields(kind).items():
        if key not in theirs:
            continue
        their_name, their_hint = theirs[key]
        found = getattr(value, their_name)
        inner, many = inner_type(hint)
        if found is None or (many and not found):
            continue
        narrow = inner_type(their_hint)[0]
        if many:
            made[name] = [_value_to_v1(v, inner, narrow) for v in found]
        elif (one := _value_to_v1(found, inner, narrow)) is not None:
            made[name] = one
    return kind(**made)


def _value_to_v1(value: Any, kind: Any, theirs: Any) -> Any:
    import mrd
    from xsdata.models.datatype import XmlDate, XmlTime

    if isinstance(value, enum.Enum):
        if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
            return value.name
        word = plain(value.name)
        if word == NO_ACCELERATION:
            return None
        found = next((member for member in kind if plain(str(member.value)) == word), None)
        if found is None:
            raise ValueError(f"found {value!r}, expected a {kind.__name__}")
        return found
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        raise ValueError(f"found {value!r}, expected a {kind.__name__}")
    if isinstance(value, mrd.Time):
        nanoseconds = int(value.numpy_value.astype("int64"))
        seconds, rest = divmod(nanoseconds, 10**9)
        return XmlTime(seconds // 3600, seconds // 60 % 60, seconds % 60, rest)
    if isinstance(value, datetime.date):
        return XmlDate.from_date(value)
    if kind is bytes:
        return base64.b64decode(value)
    if isinstance(value, float) and "Float32" in getattr(theirs, "__metadata__", ()):
        return float(str(np.float32(value)))
    return _to_v1(value, kind) if dataclasses.is_dataclass(kind) else value
