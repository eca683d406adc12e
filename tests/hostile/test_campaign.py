"""A short cut of the campaign, and what it must be able to find."""

import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.hostile import campaign
from tests.hostile.targets import TARGETS

INPUTS = int(os.environ.get("CHPNET_HOSTILE_INPUTS", "4000"))
FIRST = 10_000_000
"""Other inputs than those of the table in docs/tables/hostile.md."""


@pytest.mark.parametrize(
    ("target", "inputs"), list(campaign.share(INPUTS)), ids=lambda v: getattr(v, "name", "")
)
def test_bad_input_is_refused_in_words(target, inputs):
    tally = campaign.run_target(target, FIRST, inputs)
    assert tally.findings == []
    assert tally.inputs == inputs
    assert tally.distinct > 0.8 * inputs  # of others nothing was changed
    assert any(what.endswith("Error") for what in tally.outcomes)  # something was refused


def test_the_same_number_is_the_same_input():
    for target in TARGETS:
        one, two = (campaign.bad_input(target, 17) for _ in range(2))
        assert one == two
        assert campaign.bad_input(target, 18) != one


def boom(data: bytes) -> str:
    raise IndexError("out of range")


def no_words(data: bytes) -> str:
    from chpnet_stream.errors import InputError

    raise InputError(" ")


@pytest.mark.parametrize(("take", "said"), [(boom, "IndexError"), (no_words, "not one line")])
def test_faults_are_told(take, said):
    target = dataclasses.replace(TARGETS[0], take=take)
    _, fault = campaign.take(target, b"")
    assert said in fault


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; no_core(); os.kill(os.getpid(), signal.SIGSEGV)", "crash"),
        ("import time; time.sleep(600)", "hang"),
    ],
)
def test_crashes_and_hangs_are_told_and_the_campaign_goes_on(monkeypatch, code, said):
    """The worker is a process of its own: here one that fails at its second input."""
    script = (
        "import sys, json, faulthandler, resource\n"
        "def no_core():\n    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "first, inputs, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])\n"
        "faulthandler.enable()\n"
        "for n in range(first, first + inputs):\n"
        "    print(json.dumps({'begin': n}), flush=True)\n"
        "    faulthandler.dump_traceback_later(seconds, exit=True)\n"
        f"    if n == 1:\n        {code}\n"
        "    faulthandler.cancel_dump_traceback_later()\n"
        "    print(json.dumps({'end': n, 'outcome': 'read', 'fault': None, 'seconds': 0.0,"
        " 'bad': True, 'digest': str(n), 'growth': 0}), flush=True)\n"
    )
    popen = campaign.subprocess.Popen

    def stand_in(words, **options):
        return popen([sys.executable, "-c", script, *words[-3:]], **options)

    monkeypatch.setattr(campaign.subprocess, "Popen", stand_in)
    began = time.monotonic()
    tally = campaign.run_target(TARGETS[0], 0, 4, seconds=2.0)
    assert time.monotonic() - began < 200
    assert tally.inputs == 4
    assert [number for number, _ in tally.findings] == [1]
    assert said in tally.findings[0][1]


def test_memory_that_grows_is_told():
    tally = campaign.Tally()
    told = {"end": 3, "outcome": "read", "fault": None, "seconds": 0.1, "bad": True, "digest": "a"}
    campaign._count(tally, told | {"growth": 2**40}, set())
    assert (tally.growth, tally.grew_at) == (2**40, 3)


def test_fuzzing_that_is_guided_by_coverage():
    pytest.importorskip("atheris", reason="no atheris: pip install atheris")
    from tests.hostile import coverage

    with tempfile.TemporaryDirectory() as folder:
        tried, kept, edges, fault = coverage.run("header", Path(folder), 2)
        assert fault == ""
        assert tried > 1000
        assert kept > 0
        assert edges > 50
