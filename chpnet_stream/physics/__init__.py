"""Physics of the measurement: Fourier, coils, sampling, operators, conventional reconstructions.

Everything here is torch, complex, device-agnostic and knows nothing of ISMRMRD.
"""
