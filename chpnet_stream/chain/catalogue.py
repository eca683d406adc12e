"""What is known of Gadgetron 4.7: its readers, writers and the gadgets that chains are made of.

Read in its source and its own configurations. A class that is missing here is none that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

ACQUISITIONS = "acquisitions"
WAVEFORMS = "waveforms"
BUCKETS = "buckets"
RECON_DATA = "recon data"
IMAGE_ARRAYS = "image arrays"
COMPLEX = "complex images"
FLOAT = "float images"
INT16 = "int16 images"
UINT16 = "uint16 images"
INT32 = "int32 images"
UINT32 = "uint32 images"

IMAGES = frozenset({COMPLEX, FLOAT, INT16, UINT16, INT32, UINT32})
READABLE_IMAGES = IMAGES - {INT16}
"""What Gadgetron's image reader takes back from an external gadget."""

CORE_READERS = "gadgetron_core_readers"
CORE_WRITERS = "gadgetron_core_writers"
CORE_DISTRIBUTED = "gadgetron_core_distributed"
MRICORE = "gadgetron_mricore"

DIMENSIONS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
    *(f"user_{i}" for i in range(8)),
)


@dataclass(frozen=True)
class Port:
    """A reader or writer: in which library, for which message, of what."""

    dll: str
    slot: int
    kinds: frozenset[str]


@dataclass(frozen=True)
class GadgetClass:
    """A gadget: in which library, what it takes, and what comes of it (None: the same)."""

    dll: str
    takes: frozenset[str]
    gives: str | None = None


def _kinds(*names: str) -> frozenset[str]:
    return frozenset(names)


READERS = {
    "AcquisitionReader": Port(CORE_READERS, 1008, _kinds(ACQUISITIONS)),
    "WaveformReader": Port(CORE_READERS, 1026, _kinds(WAVEFORMS)),
    "ImageReader": Port(CORE_READERS, 1022, READABLE_IMAGES),
    "BufferReader": Port(CORE_READERS, 1023, _kinds(RECON_DATA)),
    "IsmrmrdImageArrayReader": Port(CORE_READERS, 1024, _kinds(IMAGE_ARRAYS)),
    "AcquisitionBucketReader": Port(CORE_READERS, 1050, _kinds(BUCKETS)),
    "GadgetIsmrmrdAcquisitionMessageReader": Port(MRICORE, 1008, _kinds(ACQUISITIONS)),
    "GadgetIsmrmrdWaveformMessageReader": Port(MRICORE, 1026, _kinds(WAVEFORMS)),
    "MRIImageReader": Port(MRICORE, 1022, READABLE_IMAGES),
}

WRITERS = {
    "ImageWriter": Port(CORE_WRITERS, 1022, IMAGES),
    "BufferWriter": Port(CORE_WRITERS, 1023, _kinds(RECON_DATA)),
    "IsmrmrdImageArrayWriter": Port(CORE_WRITERS, 1024, _kinds(IMAGE_ARRAYS)),
    "AcquisitionBucketWriter": Port(CORE_WRITERS, 1050, _kinds(BUCKETS)),
    "AcquisitionWriter": Port(CORE_WRITERS, 1008, _kinds(ACQUISITIONS)),
    "WaveformWriter": Port(CORE_WRITERS, 1026, _kinds(WAVEFORMS)),
    "GadgetIsmrmrdAcquisitionMessageWriter": Port(MRICORE, 1008, _kinds(ACQUISITIONS)),
    "GadgetIsmrmrdWaveformMessageWriter": Port(MRICORE, 1026, _kinds(WAVEFORMS)),
    "MRIImageWriter": Port(MRICORE, 1022, IMAGES),
}

DISTRIBUTORS = {
    "AcquisitionDistributor": GadgetClass(CORE_DISTRIBUTED, _kinds(ACQUISITIONS)),
    "BufferDistributor": GadgetClass(CORE_DISTRIBUTED, _kinds(RECON_DATA)),
}

_ACQUISITION = ("NoiseAdjustGadget", "AsymmetricEchoAdjustROGadget", "RemoveROOversamplingGadget",
                "PCACoilGadget", "CoilReductionGadget", "CoilComputationGadget")  # fmt: skip
_RECON_DATA = ("GenericReconCartesianReferencePrepGadget", "GenericReconEigenChannelGadget",
               "GenericReconReferenceKSpaceDelayedBufferGadget")  # fmt: skip
_TO_ARRAYS = ("SimpleReconGadget", "GenericReconCartesianFFTGadget",
              "GenericReconCartesianGrappaGadget", "GenericReconCartesianGrappaAIGadget",
              "GenericReconCartesianSpiritGadget",
              "GenericReconCartesianNonLinearSpirit2DTGadget")  # fmt: skip
_ARRAYS = ("GenericReconPartialFourierHandlingFilterGadget",
           "GenericReconPartialFourierHandlingPOCSGadget", "GenericReconKSpaceFilteringGadget",
           "GenericReconFieldOfViewAdjustmentGadget", "GenericReconImageArrayScalingGadget",
           "GenericReconNoiseStdMapComputingGadget")  # fmt: skip
_ANY_IMAGE = ("ImageIndexGadget", "ImageSortGadget", "ImageResizingGadget",
              "AugmentImageMetadataGadget")  # fmt: skip

GADGETS = {
    **{name: GadgetClass(MRICORE, _kinds(ACQUISITIONS)) for name in _ACQUISITION},
    **{name: GadgetClass(MRICORE, _kinds(RECON_DATA)) for name in _RECON_DATA},
    **{name: GadgetClass(MRICORE, _kinds(RECON_DATA), IMAGE_ARRAYS) for name in _TO_ARRAYS},
    **{name: GadgetClass(MRICORE, _kinds(IMAGE_ARRAYS)) for name in _ARRAYS},
    **{name: GadgetClass(MRICORE, IMAGES) for name in _ANY_IMAGE},
    "AcquisitionAccumulateTriggerGadget": GadgetClass(
        MRICORE, _kinds(ACQUISITIONS, WAVEFORMS), BUCKETS
    ),
    "FlagTriggerGadget": GadgetClass(MRICORE, _kinds(ACQUISITIONS), BUCKETS),
    "BucketToBufferGadget": GadgetClass(MRICORE, _kinds(BUCKETS), RECON_DATA),
    "AccumulatorGadget": GadgetClass(MRICORE, _kinds(ACQUISITIONS), COMPLEX),
    "ImageArraySplitGadget": GadgetClass(MRICORE, _kinds(IMAGE_ARRAYS), COMPLEX),
    "FFTGadget": GadgetClass(MRICORE, _kinds(COMPLEX)),
    "CombineGadget": GadgetClass(MRICORE, _kinds(COMPLEX)),
    "ComplexToFloatGadget": GadgetClass(MRICORE, _kinds(COMPLEX), FLOAT),
    "ExtractGadget": GadgetClass(MRICORE, _kinds(COMPLEX), FLOAT),
    "AutoScaleGadget": GadgetClass(MRICORE, _kinds(FLOAT)),
    "ScaleGadget": GadgetClass(MRICORE, _kinds(FLOAT, IMAGE_ARRAYS)),
    "FloatToShortGadget": GadgetClass(MRICORE, _kinds(FLOAT), INT16),
    "FloatToUShortGadget": GadgetClass(MRICORE, _kinds(FLOAT), UINT16),
    "FloatToIntGadget": GadgetClass(MRICORE, _kinds(FLOAT), INT32),
    "FloatToUIntGadget": GadgetClass(MRICORE, _kinds(FLOAT), UINT32),
    "ImageFinishGadget": GadgetClass(
        MRICORE, IMAGES | _kinds(ACQUISITIONS, WAVEFORMS, BUCKETS, RECON_DATA, IMAGE_ARRAYS)
    ),
}

CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    **{
        ("AcquisitionAccumulateTriggerGadget", name): (*DIMENSIONS, "n_acquisitions", "none", "")
        for name in ("trigger_dimension", "sorting_dimension")
    },
    **{
        ("BucketToBufferGadget", name): (*DIMENSIONS, "none", "")
        for name in ("N_dimension", "S_dimension")
    },
    ("AcquisitionDistributor", "parallel_dimension"): DIMENSIONS,
}
"""Values that a property of a class takes, where they are few."""
