"""Gadgetron chains, read and checked before the scan."""
