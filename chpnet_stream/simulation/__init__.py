"""A simulated scanner: head phantom, receive coils, and scans of it as ISMRMRD files."""
