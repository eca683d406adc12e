"""How much a peer may make us allocate."""

from __future__ import annotations

from dataclasses import dataclass

from chpnet_stream.size_limits import WIRE, configured_limits


@dataclass(frozen=True)
class WireLimits:
    """Largest sizes that are read; what promises more is refused before memory is taken.

    Memory for samples is taken as one piece, and touched only as its bytes come in: a peer that
    promises much and sends little costs address space, no memory.

    Attributes:
        config_bytes: A configuration (id 2).
        header_bytes: The XML header of a scan (id 3).
        text_bytes: TEXT, ERROR, QUERY and RESPONSE.
        meta_bytes: The meta of one image.
        item_bytes: One acquisition, image or waveform with everything in it.
        collection_bytes: One recon data, image array or bucket with everything in it.
        dimensions: Axes of an array.
    """

    config_bytes: int = 16 * 2**20
    header_bytes: int = 64 * 2**20
    text_bytes: int = 2**20
    meta_bytes: int = 16 * 2**20
    item_bytes: int = 2**30
    collection_bytes: int = 4 * 2**30
    dimensions: int = 16

    @classmethod
    def configured(cls) -> WireLimits:
        """The limits of this process: the usual ones, as `CHPNET_LIMITS` changes them.

        Raises:
            ConfigurationError: The variable can't be understood.
        """
        return cls(**{name: n for name, n in configured_limits().items() if name in WIRE})
