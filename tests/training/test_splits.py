import pytest

from chpnet_training.splits import split_subjects

NAMES = [f"subject {i // 3}" for i in range(300)]


def count(sides):
    return {side: list(sides.values()).count(side) for side in ("train", "val", "test")}


def test_shares_are_of_subjects():
    sides = split_subjects(NAMES, {}, validation=0.2, test=0.1, seed=0)
    assert count(sides) == {"train": 70, "val": 20, "test": 10}


def test_seed_decides_and_order_does_not():
    def val(seed, names=NAMES):
        sides = split_subjects(names, {}, validation=0.2, test=0.1, seed=seed)
        return {name for name, side in sides.items() if side == "val"}

    assert val(1) == val(1, NAMES[::-1])
    assert val(1) != val(2)


def test_subjects_may_be_put_in_order_by_a_part_of_their_name():
    def val(folder):
        names = {f"{folder}/{name}": name for name in NAMES}
        sides = split_subjects(list(names), {}, validation=0.2, test=0.1, seed=1, names=names)
        return {names[name] for name, side in sides.items() if side == "val"}

    assert val("a") == val("b")


def test_most_subjects_keep_their_side_when_others_come():
    few = split_subjects(NAMES, {}, validation=0.2, test=0.1, seed=0)
    many = split_subjects([*NAMES, "new a", "new b"], {}, validation=0.2, test=0.1, seed=0)
    assert sum(few[name] != many[name] for name in few) <= 4


@pytest.mark.parametrize(
    ("subjects", "validation", "test", "expected"),
    [
        (2, 0.08, 0.0, (1, 1, 0)),
        (3, 0.08, 0.08, (1, 1, 1)),
        (1, 0.08, 0.0, (1, 0, 0)),
        (2, 0.08, 0.08, (1, 1, 0)),
        (5, 0.0, 0.0, (5, 0, 0)),
        (4, 0.9, 0.0, (1, 3, 0)),
    ],
)
def test_few_subjects(subjects, validation, test, expected):
    names = [str(i) for i in range(subjects)]
    sides = split_subjects(names, {}, validation=validation, test=test, seed=3)
    assert tuple(count(sides).values()) == expected


def test_fixed_sides_stay():
    fixed = {"a": "val", "b": "train"}
    sides = split_subjects(["a", "b", "c", "d"], fixed, validation=0.01, test=0, seed=0)
    assert sides == {"a": "val", "b": "train", "c": "train", "d": "train"}
