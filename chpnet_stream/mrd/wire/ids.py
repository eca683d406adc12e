"""Numbers of the messages."""

from __future__ import annotations

from enum import IntEnum


class MessageId(IntEnum):
    """The uint16 that every message begins with.

    Source: Gadgetron 4.7, `core/MessageID.h`. MRD clients without Gadgetron (FIRE, the client of
    python-ismrmrd-server) know 1 to 5, 1008, 1022 and 1026 only. 1030: ISMRMRD 1.15.
    """

    FILENAME = 1
    CONFIG = 2
    HEADER = 3
    CLOSE = 4
    TEXT = 5
    QUERY = 6
    RESPONSE = 7
    ERROR = 8
    ACQUISITION = 1008
    IMAGE = 1022
    RECON_DATA = 1023
    IMAGE_ARRAY = 1024
    WAVEFORM = 1026
    ND_ARRAY = 1030
    BUCKET = 1050
