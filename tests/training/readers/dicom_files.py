"""DICOM files as a scanner writes them, by pydicom."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

NAME = "Planted^Patientname"


def write_dicom(path: Path, pixels: np.ndarray, **changes: Any) -> Path:
    """Write one MR image (uint16 `y x`, or `frames y x`); `changes` are DICOM keywords.

    None takes an element away.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
        "PatientName": NAME,
        "PatientID": "PID-4711-SECRET",
        "PatientBirthDate": "19700101",
        "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "SeriesDescription": "t1_mprage",
        "InstanceNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelSpacing": [1.5, 0.75],
    } | changes
    if pixels.ndim == 3:
        values.setdefault("NumberOfFrames", pixels.shape[0])
    for keyword, value in values.items():
        if value is not None:
            setattr(data, keyword, value)
    data.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path
