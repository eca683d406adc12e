"""Inference engines: one file each, behind the protocol in `engines.engine`."""
