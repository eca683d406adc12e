"""The boundary: ISMRMRD (MRD) headers, flags, files and images."""
