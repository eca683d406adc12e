"""Every setting of a reconstruction, described once: for properties, options and the docs.

Imports nothing, since `chpnet-stream --help` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

KSPACE = ("acquisitions", "buffers")
EVERY = (*KSPACE, "images")


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: As a property of a chain; as an option with `--` and dashes.
        default: Its value where nothing is said. Its type is the setting's type.
        description: What it does, in a sentence or two.
        choices: The values of a text that has only these.
        least: Smallest number.
        most: Largest number, where there is one.
        unit: Of a number.
        gadgets: The gadgets that heed it.
        note: What else the properties of a gadget need to be told.
    """

    name: str
    default: str | bool | int | float
    description: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    unit: str = ""
    gadgets: tuple[str, ...] = EVERY
    note: str = ""

    @property
    def expected(self) -> str:
        """Which values it takes, in words."""
        if self.choices:
            *most, last = self.choices
            return f"{', '.join(most)} or {last}"
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "a text"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        if self.most is None:
            return f"{kind} of at least {self.least}"
        return f"{kind} from {self.least} to {self.most}"

    @property
    def written(self) -> str:
        """The default as a chain has it."""
        return text_of(self.default)


def text_of(value: object) -> str:
    """A value as the attribute of a property."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            "method",
            "chpnet",
            "Reconstruction that is sent. chpnet falls back to cg-sense where a check fails.",
            choices=("chpnet", "cg-sense", "zero-filled", "rss"),
            gadgets=KSPACE,
        ),
        Setting(
            "model",
            "chpnet-rt",
            "An installed model (see `chpnet-stream models`) or the .json card of another.",
            note="A card needs its whole path. Where none is named the images gadget takes the "
            "installed model for its task, if there is one, and a server takes its own.",
        ),
        Setting(
            "engine",
            "auto",
            "Inference engine. auto: on a GPU TensorRT where plans are ready, else PyTorch; on a "
            "CPU PyTorch in bf16 where the CPU has it, else ONNX Runtime. tensorrt and "
            "tensorrt-rtx make missing plans, and fall back to PyTorch on the GPU, then to the "
            "CPU.",
            choices=("auto", "onnx", "openvino", "pytorch", "tensorrt", "tensorrt-rtx"),
        ),
        Setting(
            "precision",
            "auto",
            "Arithmetic of the denoisers; data consistency is float32 always. auto: fp16 for "
            "TensorRT, bf16 for PyTorch and OpenVINO on a CPU that has it, else fp32.",
            choices=("auto", "fp32", "fp16", "bf16", "int8"),
        ),
        Setting(
            "deadline_ms",
            0.0,
            "Time from a slice's last readout to its image. A network that is not ready by then is "
            "given up, and the conventional image goes out. 0: no deadline.",
            note="The images gadget sends the interpolated image then.",
            least=0,
            unit="ms",
        ),
        Setting(
            "wake_ms",
            30.0,
            "On a CPU: how long before the last readout of a slice is expected all cores are kept "
            "busy, and at most as long behind it, so that they are fast when it comes; cores that "
            "had nothing to do for a tenth of a second take almost twice as long. 0: they rest "
            "between slices.",
            least=0,
            most=1000,
            unit="ms",
            gadgets=KSPACE,
        ),
        Setting(
            "on_error",
            "fallback",
            "When the network can't be loaded, fails on a slice, or its image on a check. "
            "fallback: the conventional image goes out. baseline-only: conventional images from "
            "there on. error: the scan ends with an error.",
            note="The images gadget sends interpolated images instead of conventional ones; "
            "without a model it passes images on unchanged, or with error ends the scan.",
            choices=("fallback", "error", "baseline-only"),
        ),
        Setting(
            "send_baseline",
            False,
            "Send the conventional image of every slice too, as a series of its own.",
            note="The images gadget sends the image as it came; not with image arrays.",
        ),
        Setting(
            "series",
            1,
            "image_series_index of the images.",
            least=1,
            most=65535,
            gadgets=KSPACE,
        ),
        Setting(
            "baseline_series",
            2,
            "image_series_index of the conventional images.",
            least=1,
            most=65535,
        ),
        Setting(
            "image_type",
            "magnitude",
            "Magnitudes, or complex images with their phase.",
            choices=("magnitude", "complex"),
            gadgets=KSPACE,
        ),
        Setting(
            "dtype",
            "float32",
            "Pixels of magnitudes. uint16 has one scale for the whole series (RescaleSlope in the "
            "meta).",
            choices=("float32", "uint16"),
            gadgets=KSPACE,
        ),
        Setting(
            "scale",
            1,
            "Pixel value of one standard deviation of the noise, for what rounds to whole numbers "
            "later.",
            least=1,
            most=10_000,
            gadgets=KSPACE,
        ),
        Setting(
            "virtual_coils",
            8,
            "Most coils after compression.",
            least=1,
            most=64,
            gadgets=KSPACE,
        ),
        Setting(
            "image_matrix",
            "recon",
            "Pixels of the images. recon: those of reconSpace, which the protocol asks for; where "
            "they are finer than the encoded ones (phase resolution below 100 %, interpolation), "
            "images are interpolated by zero-filling. encoded: those that were measured.",
            choices=("recon", "encoded"),
            gadgets=KSPACE,
        ),
        Setting(
            "flip_rows",
            False,
            "Reverse the order of image rows (y).",
            note="The directions in the header stay the acquisition's; the meta tell the flip "
            "(ImageColumnDir).",
            gadgets=KSPACE,
        ),
        Setting(
            "flip_columns",
            False,
            "Reverse the order of image columns (x).",
            note="Told in the meta (ImageRowDir).",
            gadgets=KSPACE,
        ),
    )
}
"""All settings by name, in the order in which they are told."""
