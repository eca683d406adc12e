"""Readers of training material: each yields `SourceImage` objects, one magnitude slice each.

`pictures` reads PNG, JPEG and ``.npy`` slices, `nifti` volumes, `dicom` series, `fastmri` the
fastMRI HDF5 files and `mrd` fully sampled ISMRMRD scans; `detect` tells which one a file is for.
Intensities are scaled once per volume, never per slice.
"""

from chpnet_training.readers.image import SkipCounter, SourceImage, scale_volume

__all__ = ["SkipCounter", "SourceImage", "scale_volume"]
