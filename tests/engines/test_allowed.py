import pytest

from chpnet_stream.engines.allowed import (
    ALLOWED,
    PRECISIONS,
    check_allowed,
    engines,
    find,
    precisions_of,
    table_rows,
)
from chpnet_stream.engines.choice import ENGINES
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.schema import SETTINGS


def test_the_table_is_complete():
    assert {row.engine for row in ALLOWED} == set(ENGINES) - {"auto"}
    pairs = [(row.engine, row.precision) for row in ALLOWED]
    assert sorted(pairs) == sorted((e, p) for e in engines() for p in PRECISIONS)
    assert set(SETTINGS["engine"].choices) == set(ENGINES)
    assert set(SETTINGS["precision"].choices) == {"auto", *PRECISIONS}


def test_what_is_missing_has_a_reason():
    for row in ALLOWED:
        if set(row.targets) != {"cpu", "cuda"}:
            assert row.why, row


@pytest.mark.parametrize("row", ALLOWED, ids=lambda row: f"{row.engine}-{row.precision}")
def test_every_cell_is_allowed_or_refused_with_a_way_out(row):
    for target in ("cpu", "cuda", "sm_75", "sm_86", "sm_90", "sm_121"):
        if target in row.targets:
            check_allowed(row.engine, row.precision, target)
            assert row.precision in precisions_of(row.engine, target)
            continue
        with pytest.raises(ConfigurationError) as caught:
            check_allowed(row.engine, row.precision, target)
        text = str(caught.value)
        assert text.startswith(f"{row.engine} has no {row.precision} on {target}: {row.why}")
        assert "; expected " in text
        assert "\n" not in text


def test_the_near_target_is_named():
    with pytest.raises(ConfigurationError, match=r"no fp16 on sm_90: .*expected --target sm_89"):
        check_allowed("tensorrt-rtx", "fp16", "sm_90")
    with pytest.raises(ConfigurationError, match=r"expected --target sm_75"):
        check_allowed("tensorrt", "fp32", "sm_70")


def test_near_names():
    with pytest.raises(ConfigurationError, match="no engine 'tensort'; did you mean 'tensorrt'"):
        find("tensort", "fp16")
    with pytest.raises(ConfigurationError, match="no precision 'half'"):
        find("tensorrt", "half")


def test_rows_for_people():
    rows = table_rows(["tensorrt-rtx"])
    assert [row[1] for row in rows] == list(PRECISIONS)
    assert [row[2] for row in rows][-1] == "not offered"
    assert len(table_rows()) == len(ALLOWED)
