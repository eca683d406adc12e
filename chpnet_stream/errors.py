"""Every error that a user of chpnet-stream can meet, in one tree.

A message is one line: what was found, what was expected, what to do. Doors (command line, server,
gadget) catch `ChpnetError`, show that line and leave with `exit_code`; anything else that
escapes is a fault of ours. This module imports nothing, so that every other module may import it.
"""


class ChpnetError(Exception):
    """Root of all errors raised on purpose by this project.

    Attributes:
        exit_code: exit status of a command: 2 for bad input or usage, 1 for our own side.
    """

    exit_code = 1

    def __str__(self) -> str:
        """The message in one line, whatever it quotes: no line breaks, no control characters."""
        words = " ".join(super().__str__().split())
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


class ConfigurationError(ChpnetError):
    """An option, property or configuration file has a value that can't be used."""

    exit_code = 2


class InputError(ChpnetError):
    """The scan that was handed in can't be used as it is."""

    exit_code = 2


class NotAnMrdFileError(InputError):
    """The file is missing, is not HDF5, or holds nothing in ISMRMRD layout."""


class MissingGroupError(InputError):
    """The HDF5 file has no such group."""


class EmptyScanError(InputError):
    """The scan has no acquisitions, or none with image data."""


class TruncatedFileError(InputError):
    """The file ends, or an acquisition ends, before what its header promises."""


class HeaderError(InputError):
    """The scan's XML header can't be read, or lacks what every scan must say."""


class UnsupportedScanError(InputError):
    """The scan is valid, but of a kind that is not reconstructed here (trajectory, layout)."""


class InconsistentScanError(InputError):
    """Acquisitions contradict the header or one another (line outside the matrix, coil count)."""


class BadSamplesError(InputError):
    """Samples are NaN or infinite."""


class MissingCalibrationError(InputError):
    """Undersampled data without any lines to estimate coil sensitivities from."""


class OutputError(ChpnetError):
    """The result can't be written where it should go."""

    exit_code = 2


class OutputExistsError(OutputError):
    """The output file is there already and overwriting was not asked for."""


class ModelError(ChpnetError):
    """A model is unknown, damaged, or does not fit the task."""

    exit_code = 2


class EngineError(ChpnetError):
    """An inference engine is not installed, can't load a model, or failed while running it."""


class ProtocolError(ChpnetError):
    """The peer sent bytes that are no valid message, or closed in the middle of one."""


class PeerGoneError(ProtocolError):
    """The peer went away before it had said CLOSE."""


class StalledPeerError(ProtocolError):
    """The peer is there, but has sent nothing for too long."""


class PeerError(ProtocolError):
    """The peer reported an error of its own."""


class MissingImagesError(ProtocolError):
    """The peer has sent fewer images than the scan has."""


class ReconstructionError(ChpnetError):
    """A slice could not be reconstructed by any method."""
