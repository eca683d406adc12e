"""Readers of training material: each yields `SourceImage` objects, one magnitude slice each.

`folders` reads PNG, JPEG and ``.npy`` slices, `nifti` volumes, `fastmri` the fastMRI HDF5 files and
`mrd` fully sampled ISMRMRD scans. Intensities are scaled once per volume, never per slice.
"""

from chpnet_training.readers.image import SkipCounter, SourceImage, scale_volume

__all__ = ["SkipCounter", "SourceImage", "scale_volume"]
