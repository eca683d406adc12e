"""One process agrees with itself; two of them are in test_parallel.py."""

import math

from chpnet_training.agreement import agree, first_alone
from tests.training.tiny_runs import cpu


def test_one_process_keeps_its_numbers():
    found = agree(cpu(), [0.1, -3, math.nan])
    assert found[:2] == [0.1, -3]
    assert math.isnan(found[2])


def test_one_process_works_at_once():
    beats = []

    def work(beat):
        beats.append(beat())

    first_alone(cpu(), work)
    assert beats == [None]
