"""Reads the ISMRMRD XML header into a `ScanHeader`, whichever version wrote it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from chpnet_stream.errors import HeaderError
from chpnet_stream.mrd.header import (
    DEFAULT_NOISE_BANDWIDTH,
    Encoding,
    Limit,
    ScanHeader,
    Space,
    Waveform,
)
from chpnet_stream.plain_xml import PlainXmlError, parse_plain_xml

MAX_XML_BYTES = 16 * 2**20
LARGEST_NUMBER = 2.0**62
"""Largest number that a header may state; nothing in a scan comes near."""


def _local(element: ET.Element) -> str:
    return element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else ""


def _parse(xml: bytes) -> ET.Element:
    raw = xml.rstrip(b"\0 \t\r\n").lstrip()
    if not raw:
        raise HeaderError("the XML header is empty, expected an <ismrmrdHeader>; rewrite the file")
    if len(raw) > MAX_XML_BYTES:
        raise HeaderError(
            f"the XML header has {len(raw)} bytes, expected at most {MAX_XML_BYTES}; is it one?"
        )
    try:
        root = parse_plain_xml(raw)
    except PlainXmlError as error:
        raise HeaderError(
            f"expected the header as plain XML, but {error}; it begins with {raw[:40]!r}"
        ) from error
    if _local(root) != "ismrmrdHeader":
        raise HeaderError(f"the header's root is <{_local(root)}>, expected <ismrmrdHeader>")
    return root


def _child(element: ET.Element | None, name: str) -> ET.Element | None:
    for child in element if element is not None else ():
        if _local(child) == name:
            return child
    return None


def _children(element: ET.Element | None, name: str) -> list[ET.Element]:
    return [child for child in (element if element is not None else ()) if _local(child) == name]


def _parsed(text: str, kind: type[int] | type[float]) -> int | float | None:
    """A number, also where "3.0" stands for an integer; None if it is none."""
    for read in (kind, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def _text(element: ET.Element | None, name: str) -> str | None:
    child = _child(element, name)
    text = (child.text or "").strip() if child is not None else ""
    return text or None


def _simple(element: ET.Element | None) -> dict[str, str]:
    """Text of the children that have no children of their own."""
    items = element if element is not None else ()
    return {_local(c): (c.text or "").strip() for c in items if not len(c) and _local(c)}


def _flat(space: Space) -> Space:
    return Space((*space.matrix[:2], 1), space.field_of_view_mm)


class HeaderReader:
    """Reads one header; collects notes on the way."""

    def __init__(self, xml: bytes) -> None:
        self.xml = xml
        self.root = _parse(xml)
        self.notes: list[str] = []

    def header(self) -> ScanHeader:
        """The header; raises HeaderError as `ScanHeader.from_xml` says."""
        root = self.root
        encodings = tuple(self._encoding(i, e) for i, e in enumerate(_children(root, "encoding")))
        if not encodings:
            raise HeaderError(
                "the header has no <encoding>, expected at least one; rewrite it by ismrmrd.xsd"
            )
        system = _child(root, "acquisitionSystemInformation")
        measurement = _child(root, "measurementInformation")
        sequence = _child(root, "sequenceParameters")
        conditions = _child(root, "experimentalConditions")
        position = _text(measurement, "patientPosition")
        if measurement is not None and position is None:
            self.notes.append("no patientPosition in measurementInformation: left unknown")
        bandwidth = self._told(system, "relativeReceiverNoiseBandwidth", float, None)
        if bandwidth is not None and not 0 < bandwidth <= 10:
            self.notes.append(f"relativeReceiverNoiseBandwidth {bandwidth}: taken as 0.793")
            bandwidth = None
        return ScanHeader(
            xml=self.xml,
            encodings=encodings,
            version=self._told(root, "version", int, None),
            h1_frequency_hz=self._told(conditions, "H1resonanceFrequency_Hz", int, None),
            receiver_channels=self._told(system, "receiverChannels", int, None),
            field_strength_t=self._told(system, "systemFieldStrength_T", float, None),
            noise_bandwidth=DEFAULT_NOISE_BANDWIDTH if bandwidth is None else bandwidth,
            te_ms=self._numbers(sequence, "TE"),
            tr_ms=self._numbers(sequence, "TR"),
            ti_ms=self._numbers(sequence, "TI"),
            flip_angle_deg=self._numbers(sequence, "flipAngle_deg"),
            sequence_type=_text(sequence, "sequence_type"),
            patient_position=position,
            measurement=_simple(measurement),
            system=_simple(system),
            study=_simple(_child(root, "studyInformation")),
            coil_names=tuple(
                (self._told(c, "coilNumber", int, i), _text(c, "coilName") or "")
                for i, c in enumerate(_children(system, "coilLabel"))
            ),
            dependencies=tuple(
                (_text(d, "dependencyType") or "", _text(d, "measurementID") or "")
                for d in _children(measurement, "measurementDependency")
            ),
            user_parameters=self._user_parameters(),
            waveforms=tuple(
                Waveform(_text(w, "waveformName") or "", _text(w, "waveformType") or "other")
                for w in _children(root, "waveformInformation")
            ),
            notes=tuple(self.notes),
        )

    def _encoding(self, index: int, element: ET.Element) -> Encoding:
        where = f"encoding {index}"
        encoded = self._space(element, "encodedSpace", where, None)
        recon = self._space(element, "reconSpace", where, encoded)
        limits = self._limits(_child(element, "encodingLimits"), where)
        planes = encoded.matrix[2]
        steps = limits.get("kspace_encoding_step_2")
        flat = planes > 1 and steps is not None and steps.count == 1
        if flat:
            self.notes.append(
                f"{where}: encodedSpace has {planes} partitions, encodingLimits one: taken as 2-D"
            )
            encoded, recon = _flat(encoded), _flat(recon)
        trajectory = self._trajectory(element, where)
        if trajectory == "cartesian":
            for axis in (1, 2):
                self._centre(limits, axis, encoded.matrix[axis], where)
        parallel = _child(element, "parallelImaging")
        factors = _child(parallel, "accelerationFactor")
        mode = _text(parallel, "calibrationMode")
        dimension = _text(parallel, "interleavingDimension")
        return Encoding(
            index=index,
            encoded=encoded,
            recon=recon,
            trajectory=trajectory,
            limits=limits,
            acceleration=(
                max(1, self._number(factors, "kspace_encoding_step_1", int, 1)),
                max(1, self._number(factors, "kspace_encoding_step_2", int, 1)),
            ),
            calibration_mode=mode.lower() if mode else None,
            interleaving_dimension=dimension.lower() if dimension else None,
            multiband_factor=self._number(
                _child(parallel, "multiband"), "multiband_factor", int, 1
            ),
            is_flattened=flat,
        )

    def _trajectory(self, element: ET.Element, where: str) -> str:
        text = _text(element, "trajectory")
        if text is None:
            self.notes.append(f"{where}: no trajectory stated, taken as cartesian")
            return "cartesian"
        if text != text.lower():
            self.notes.append(f"{where}: trajectory '{text}' read as '{text.lower()}'")
        return text.lower()

    def _space(self, element: ET.Element, name: str, where: str, default: Space | None) -> Space:
        space = _child(element, name)
        if space is None:
            if default is None:
                raise HeaderError(
                    f"{where} has no <{name}>, expected its matrixSize and fieldOfView_mm; add it"
                )
            self.notes.append(f"{where}: no {name}, taken as encodedSpace")
            return default
        matrix = _child(space, "matrixSize")
        fov = _child(space, "fieldOfView_mm")
        if matrix is None:
            raise HeaderError(f"{where}: {name} has no <matrixSize>, expected x, y, z; add it")
        if fov is None:
            self.notes.append(f"{where}: {name} has no fieldOfView_mm, taken as 1 mm a voxel")
        size = [self._number(matrix, axis, int, 1) for axis in "xyz"]
        view = [
            self._number(fov, axis, float, float(n)) for axis, n in zip("xyz", size, strict=True)
        ]
        return Space((size[0], size[1], size[2]), (view[0], view[1], view[2]))

    def _limits(self, element: ET.Element | None, where: str) -> dict[str, Limit]:
        limits: dict[str, Limit] = {}
        for child in element if element is not None else ():
            name = _local(child).replace("kspace_encode_step", "kspace_encoding_step")
            minimum = self._number(child, "minimum", int, 0)
            maximum = self._number(child, "maximum", int, 0)
            center = self._number(child, "center", int, None)
            if center is None:
                center = minimum + (maximum - minimum + 1) // 2
                if maximum > minimum and name.startswith("kspace"):
                    self.notes.append(f"{where}: {name} states no center, taken as {center}")
            limits[name] = Limit(minimum, maximum, center)
        return limits

    def _centre(self, limits: dict[str, Limit], step: int, size: int, where: str) -> None:
        """Put the middle in the place of a center of 0 that was never filled in.

        Lines from 0 to the last one can't all lie behind the k-space centre: the matrix ends there.
        """
        name = f"kspace_encoding_step_{step}"
        limit = limits.get(name, Limit())
        if limit.center or limit.minimum or not size - size // 2 < limit.count <= size:
            return
        middle = limit.count // 2
        self.notes.append(f"{where}: {name} states center 0, taken as {middle}")
        limits[name] = Limit(limit.minimum, limit.maximum, middle)

    def _number(self, element: ET.Element | None, name: str, kind: Any, default: Any) -> Any:
        text = _text(element, name)
        if text is None:
            return default
        value = _parsed(text, kind)
        if value is None or not abs(value) <= LARGEST_NUMBER:  # NaN isn't
            raise HeaderError(
                f"the header says {name} = '{text[:40]}', expected a number; fix the header"
            )
        return kind(value)

    def _told(self, element: ET.Element | None, name: str, kind: Any, default: Any) -> Any:
        """A number that images can be made without: where it is none, that is noted."""
        try:
            return self._number(element, name, kind, default)
        except HeaderError:
            self.notes.append(f"{name} is no number: left out")
            return default

    def _numbers(self, element: ET.Element | None, name: str) -> tuple[float, ...]:
        values = []
        for child in _children(element, name):
            try:
                values.append(float((child.text or "").strip()))
            except ValueError:
                self.notes.append(f"{name} '{child.text}' is no number: left out")
        return tuple(values)

    def _user_parameters(self) -> dict[str, int | float | str]:
        found: dict[str, int | float | str] = {}
        kinds: tuple[tuple[str, Any], ...] = (
            ("userParameterLong", int),
            ("userParameterDouble", float),
            ("userParameterString", str),
        )
        parameters = _child(self.root, "userParameters")
        for tag, kind in kinds:
            for element in _children(parameters, tag):
                name, text = _text(element, "name"), _text(element, "value") or ""
                if name is None:
                    continue
                try:
                    found[name] = kind(text)
                except ValueError:
                    found[name] = text
        return found


def mended(xml: bytes) -> bytes:
    """A copy of the header that the ismrmrd package's parser takes."""
    import dataclasses
    import typing

    from ismrmrd import xsd

    namespace = "http://www.ismrm.org/ISMRMRD"

    def known(kind: Any) -> dict[str, Any]:
        """Element name -> dataclass of its content, or None for simple content."""
        hints = typing.get_type_hints(kind)
        content: dict[str, Any] = {}
        for part in dataclasses.fields(kind):
            types = [hints[part.name], *typing.get_args(hints[part.name])]
            content[part.name] = next((t for t in types if dataclasses.is_dataclass(t)), None)
        return content

    def mend(element: ET.Element, kind: Any) -> None:
        names = known(kind)
        for child in list(element):
            name = _local(child)
            if name not in names:
                element.remove(child)
                continue
            child.tag = f"{{{namespace}}}{name}"
            if name in ("trajectory", "calibrationMode") and child.text:
                child.text = child.text.strip().lower()
            if names[name] is not None:
                mend(child, names[name])
        if (
            _local(element) == "measurementInformation"
            and _child(element, "patientPosition") is None
        ):
            position = ET.SubElement(element, f"{{{namespace}}}patientPosition")
            position.text = "HFS"

    root = _parse(xml)
    root.attrib.clear()
    root.tag = f"{{{namespace}}}ismrmrdHeader"
    mend(root, xsd.ismrmrdHeader)
    return ET.tostring(root, encoding="utf-8")


def subject(xml: bytes) -> dict[str, str]:
    """What a header says of the patient (subjectInformation), by element name.

    Kept out of `ScanHeader`, so that it goes nowhere unless it is asked for.

    Raises:
        HeaderError: Not an ISMRMRD header.
    """
    return _simple(_child(_parse(xml), "subjectInformation"))
