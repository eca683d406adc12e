"""Streaming reconstruction of accelerated MRI, slice by slice, while the scan is running."""

__version__ = "0.1.0"
