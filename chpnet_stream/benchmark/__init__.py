"""Measures latency, throughput and memory of this machine: `chpnet-stream bench`."""
