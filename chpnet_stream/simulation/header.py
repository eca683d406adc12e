"""The ISMRMRD XML header of a simulated scan."""

from __future__ import annotations

from chpnet_stream.simulation.kspace import echo_times_ms
from chpnet_stream.simulation.noise import NOISE_BANDWIDTH
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.tissues import TIMING

FIELD_STRENGTH_T = 3.0
H1_FREQUENCY_HZ = 127_728_000  # 42.576 MHz/T


def simulation_header(options: SimulationOptions) -> str:
    """XML text, schema of ISMRMRD; without a version, which no reader then can mistake.

    Phase-encode steps are counted from the first line that is measured, as scanners count them:
    with partial Fourier, the centre is below half of the matrix.
    """
    from ismrmrd import xsd

    rows, columns = options.matrix
    height, width = options.fov_mm

    def space(oversampling: int) -> xsd.encodingSpaceType:
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=columns * oversampling, y=rows, z=1),
            fieldOfView_mm=xsd.fieldOfViewMm(
                x=width * oversampling, y=height, z=options.thickness_mm
            ),
        )

    def limit(count: int, center: int = 0) -> xsd.limitType:
        return xsd.limitType(minimum=0, maximum=count - 1, center=center)

    first = options.first_line
    samples = columns * options.oversampling
    limits = xsd.encodingLimitsType(
        kspace_encoding_step_0=limit(
            samples - options.first_sample, samples // 2 - options.first_sample
        ),
        kspace_encoding_step_1=limit(rows - first, rows // 2 - first),
        kspace_encoding_step_2=limit(1),
        average=limit(options.averages),
        slice=limit(options.slices),
        contrast=limit(options.contrasts),
        phase=limit(1),
        repetition=limit(options.repetitions),
        set=limit(1),
        segment=limit(1),
    )
    mode = options.calibration_mode if options.acceleration > 1 else "other"
    repetition_time, inversion, _ = TIMING[options.weighting]
    header = xsd.ismrmrdHeader(
        measurementInformation=xsd.measurementInformationType(
            patientPosition=xsd.patientPositionType.HFS,
            protocolName=f"simulated head {options.weighting}",
        ),
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            systemVendor="chpnet-stream simulation",
            systemFieldStrength_T=FIELD_STRENGTH_T,
            relativeReceiverNoiseBandwidth=NOISE_BANDWIDTH,
            receiverChannels=options.coils,
            coilLabel=[
                xsd.coilLabelType(coilNumber=coil, coilName=f"loop {coil + 1}")
                for coil in range(options.coils)
            ],
        ),
        experimentalConditions=xsd.experimentalConditionsType(
            H1resonanceFrequency_Hz=H1_FREQUENCY_HZ
        ),
        encoding=[
            xsd.encodingType(
                encodedSpace=space(options.oversampling),
                reconSpace=space(1),
                encodingLimits=limits,
                trajectory=xsd.trajectoryType.CARTESIAN,
                parallelImaging=xsd.parallelImagingType(
                    accelerationFactor=xsd.accelerationFactorType(
                        kspace_encoding_step_1=options.acceleration, kspace_encoding_step_2=1
                    ),
                    calibrationMode=xsd.calibrationModeType(mode),
                ),
                echoTrainLength=options.contrasts,
            )
        ],
        sequenceParameters=xsd.sequenceParametersType(
            TR=[repetition_time],
            TE=echo_times_ms(options),
            TI=[inversion] if inversion else [],
        ),
        waveformInformation=[
            xsd.waveformInformationType(
                waveformName="ECG",
                waveformType=xsd.waveformInformationTypeWaveformType.ECG,
                userParameters=xsd.userParametersType(),
            )
        ]
        if options.waveforms
        else [],
    )
    return str(xsd.ToXML(header))
