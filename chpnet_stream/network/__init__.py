"""The student networks: CHPNet (paper size) and chpnet-rt (real time)."""
