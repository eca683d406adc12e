"""Gadget: images or image arrays in, enhanced ones out."""

from __future__ import annotations

from typing import Any

from chpnet_gadgets.target import serve


def reconstruct(connection: Any) -> None:
    """Serve one scan.

    Args:
        connection: The `gadgetron.external.Connection` that `python -m gadgetron` hands over.
    """
    serve(connection, "images")
