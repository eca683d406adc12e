import ismrmrd
import numpy as np
import pytest

from chpnet_stream.mrd import flags
from chpnet_stream.mrd.flags import Treatment

IN_PACKAGE = {
    name: value for name, value in vars(ismrmrd.constants).items() if name.startswith("ACQ_")
}

# What a reader of the standard would say, written down independently of the table.
EXPECTED = (
    dict.fromkeys([*range(1, 19), 25], Treatment.EDGE)
    | {19: Treatment.NOISE, 20: Treatment.CALIBRATION, 21: Treatment.CALIBRATION_AND_IMAGE}
    | {22: Treatment.REVERSE}
    | dict.fromkeys([23, 24, 26, 27, 28, 29, 30, 31], Treatment.SKIP)
    | dict.fromkeys(range(53, 65), Treatment.NEUTRAL)
)


def test_every_flag_of_the_installed_ismrmrd_is_in_the_table():
    assert {flag.name: flag.number for flag in flags.FLAGS} == IN_PACKAGE


@pytest.mark.parametrize("flag", flags.FLAGS, ids=lambda flag: flag.name)
def test_treatment_of_each_flag(flag):
    assert flag.treatment is EXPECTED[flag.number]
    acquisition = ismrmrd.Acquisition()
    acquisition.set_flag(flag.number)
    assert acquisition.flags == flag.mask
    kinds = {
        Treatment.EDGE: (True, False, False, False),
        Treatment.REVERSE: (True, False, False, False),
        Treatment.NEUTRAL: (True, False, False, False),
        Treatment.CALIBRATION_AND_IMAGE: (True, True, False, False),
        Treatment.CALIBRATION: (False, True, False, False),
        Treatment.NOISE: (False, False, True, False),
        Treatment.SKIP: (False, False, False, True),
    }[flag.treatment]
    functions = (flags.is_image, flags.is_calibration, flags.is_noise, flags.is_skipped)
    assert tuple(f(flag.mask) for f in functions) == kinds
    array = np.array([0, flag.mask], dtype=np.uint64)
    for f, answer in zip(functions, kinds, strict=True):
        assert f(array).tolist() == [f(0), answer]
    assert flags.is_reverse(flag.mask) == (flag.number == 22)
    assert flags.names(flag.mask) == [flag.name]


def test_combinations_as_arrays_agree_with_single_masks():
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 2**63, 500, dtype=np.uint64) & rng.integers(
        0, 2**63, 500, dtype=np.uint64
    )
    for f in (
        flags.is_image,
        flags.is_calibration,
        flags.is_calibration_only,
        flags.is_noise,
        flags.is_skipped,
        flags.is_reverse,
    ):
        assert f(masks).tolist() == [f(int(mask)) for mask in masks]


def test_both_calibration_flags_make_image_data():
    mask = flags.mask_of(20, 21)
    assert flags.is_image(mask)
    assert flags.is_calibration(mask)
    assert not flags.is_calibration_only(mask)


def test_noise_wins_over_everything_else():
    mask = flags.mask_of(8, 19, 20, 21, 23)
    assert flags.is_noise(mask)
    assert not flags.is_image(mask)
    assert not flags.is_calibration(mask)
    assert not flags.is_skipped(mask)


def test_bits_without_a_name_are_told_by_number():
    assert flags.names(flags.mask_of(40)) == ["bit 40"]
