"""How long a run takes is told before it begins."""

from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.benchmark.estimate import BURST, Course, Step, in_words, streamed_s
from chpnet_stream.benchmark.kept import Kept
from chpnet_stream.benchmark.plan import Case, Plan

CASES = (Case(128, 8), Case(256, 16))
PLAN = Plan(("onnx", "pytorch:fp32"), CASES, slices=1000, rate=2.0)


def course(plan: Plan, kept: Kept | None = None) -> tuple[Course, list[Step]]:
    steps: list[Step] = []
    return Course(plan, plan.engines, kept or Kept(plan), steps.append), steps


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "about 10 s"),
        (44, "about 40 s"),
        (100, "about 2 min"),
        (1500, "about 25 min"),
        (6650, "about 1 h 50 min"),
        (7300, "about 2 h"),
        (7100, "about 2 h"),
    ],
)
def test_times_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_most_of_it_is_the_pace() -> None:
    made, steps = course(PLAN)
    made.tell("beginning")
    assert (steps[0].done, steps[0].total) == (0, 2 * (2 * (1001 + BURST) + 21))
    assert 2000 < steps[0].left_s < 2100
    assert streamed_s(PLAN, CASES[1], "onnx") > streamed_s(PLAN, CASES[0], "onnx")
    unpaced = Plan(PLAN.engines, CASES, slices=1000, rate=0)
    assert 10 < streamed_s(unpaced, CASES[0], "onnx") < streamed_s(unpaced, CASES[1], "onnx") < 400


def test_the_rest_becomes_less_with_every_image() -> None:
    plan = Plan(("onnx",), CASES[:1], slices=1, rate=0.1, references=False)
    made, steps = course(plan)
    made.tell("beginning")
    made.begin(made.each, streamed_s(plan, CASES[0], "onnx"))
    for _ in range(made.each):
        made.image("images")
    left = [step.left_s for step in steps]
    assert left == sorted(left, reverse=True)
    assert steps[-1].done == steps[-1].total
    assert left[-1] < 0.3 * left[0]  # it was simulated, too
    made.end()


def test_a_part_that_fails_is_over(tmp_path: Path) -> None:
    made, steps = course(PLAN)
    made.begin(made.each, 500)
    made.image("the only one")
    made.begin(made.each, 500)
    made.tell("the next part")
    assert steps[-1].done == made.each
    assert steps[-2].left_s - steps[-1].left_s == pytest.approx(500, abs=1)


def test_what_was_measured_before_takes_no_time(tmp_path: Path) -> None:
    plan = Plan(("onnx",), CASES, slices=20, rate=2.0, references=False)
    kept = Kept(plan, tmp_path / "kept.json")
    row: dict[str, Any] = {"slices": 20, "rate_per_s": 2.0}
    kept.keep_streamed(CASES[0], "onnx", row)
    (all_of, first), (rest, second) = course(plan), course(plan, kept)
    all_of.tell("")
    rest.tell("")
    assert 13 < first[0].left_s - second[0].left_s < 20
    rest.skip("measured before", rest.each)
    assert second[1].done == rest.each
    assert second[1].left_s == second[0].left_s
    kept.keep_streamed(CASES[1], "onnx", row)
    nothing, third = course(plan, kept)
    nothing.tell("")
    assert third[0].left_s == 0
