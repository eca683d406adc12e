"""What a TensorRT plan is made from and for; two plans with one key do the same."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass

from chpnet_stream.errors import ConfigurationError

LAYOUT = 1
"""Raised when the same graph is compiled in another way than before."""


@dataclass(frozen=True, order=True)
class PlanShape:
    """Matrix and batch of a network's input: `1x128x128` is batch 1, 128 rows, 128 columns."""

    batch: int
    rows: int
    columns: int

    @classmethod
    def parse(cls, text: str) -> PlanShape:
        """From text.

        Raises:
            ConfigurationError: If it is no shape.
        """
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text.strip().lower())
        if found is None:
            raise ConfigurationError(
                f"found the shape '{text}', expected BATCHxROWSxCOLUMNS, such as 1x256x256"
            )
        return cls(*(int(number) for number in found.groups()))

    def __str__(self) -> str:
        return f"{self.batch}x{self.rows}x{self.columns}"


@dataclass(frozen=True)
class PlanShapes:
    """Smallest, usual and largest shape; a plan is fastest at the usual one."""

    least: PlanShape
    usual: PlanShape
    most: PlanShape

    @classmethod
    def parse(cls, least: str, usual: str, most: str, multiple: int = 1) -> PlanShapes:
        """From three texts, checked against each other.

        Args:
            least: Smallest, as `1x64x64`.
            usual: Usual one.
            most: Largest.
            multiple: What rows and columns must be divisible by.

        Raises:
            ConfigurationError: If one is no shape, or they are not in order.
        """
        shapes = cls(*(PlanShape.parse(text) for text in (least, usual, most)))
        for name in ("batch", "rows", "columns"):
            numbers = [getattr(shape, name) for shape in (shapes.least, shapes.usual, shapes.most)]
            if numbers != sorted(numbers):
                raise ConfigurationError(
                    f"--shapes: found {name} {', '.join(map(str, numbers))}, expected the "
                    "smallest, the usual and the largest in this order"
                )
            wrong = [n for n in numbers if n % multiple and name != "batch"]
            if wrong:
                raise ConfigurationError(
                    f"--shapes: found {wrong[0]} {name}, expected a multiple of {multiple}, to "
                    f"which the network pads; take {-(-wrong[0] // multiple) * multiple}"
                )
        return shapes

    @property
    def texts(self) -> tuple[str, str, str]:
        """As they are written."""
        return str(self.least), str(self.usual), str(self.most)

    def hold(self, batch: int, rows: int, columns: int, multiple: int = 1) -> bool:
        """Whether an input fits.

        Args:
            batch: Images at a time.
            rows: Of the image.
            columns: Of the image.
            multiple: What rows and columns are padded to a multiple of.
        """
        padded = (-(-n // multiple) * multiple for n in (rows, columns))
        pairs = zip((batch, *padded), _numbers(self.least), _numbers(self.most), strict=True)
        return all(least <= n <= most for n, least, most in pairs)


def _numbers(shape: PlanShape) -> tuple[int, int, int]:
    return shape.batch, shape.rows, shape.columns


@dataclass(frozen=True)
class PlanKey:
    """The key of a model's plans.

    Attributes:
        graphs: Checksums of the ONNX graphs that they are made of.
        package: `tensorrt` or `tensorrt-rtx`.
        version: Of the package.
        target: Compute capability, as `sm_86`.
        precision: Of the arithmetic.
        shapes: Smallest, usual, largest.
        layout: `LAYOUT` when they were made.
    """

    graphs: tuple[str, ...]
    package: str
    version: str
    target: str
    precision: str
    shapes: tuple[str, str, str]
    layout: int = LAYOUT

    def as_json(self) -> dict[str, object]:
        """As it stands in the header of a plan; lists where JSON has no tuples."""
        plain: dict[str, object] = json.loads(json.dumps(asdict(self)))
        return plain

    @property
    def digest(self) -> str:
        """SHA-256 of the key."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def difference(self, other: dict[str, object]) -> str:
        """What another key has differently, in words; empty where nothing."""
        own = self.as_json()
        parts = [
            f"{name} {_short(other.get(name))} instead of {_short(own[name])}"
            for name in own
            if own[name] != other.get(name)
        ]
        return ", ".join(parts)


def _short(value: object) -> str:
    if isinstance(value, list):
        return " ".join(str(part)[:12] for part in value)
    return str(value)
