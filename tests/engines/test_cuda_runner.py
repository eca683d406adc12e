"""What runs as one CUDA graph, and what not; on a GPU where there is one, else around a fake.

The fake records as CUDA does: the work that is done meanwhile on the memory that it is done on.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from chpnet_stream.engines.cuda_runner import RETRY, WARM_RUNS, CudaRunner
from chpnet_stream.engines.problems import mapped
from chpnet_stream.network.weights import find_model, load_student
from tests.network.problems import sense_problem, solve

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Network:
    """A student that counts its runs, and keeps the last one's inputs and image."""

    def __init__(self, student: torch.nn.Module) -> None:
        self.student = student
        self.runs = 0

    def __call__(self, *inputs):
        self.runs += 1
        self.last = (inputs, self.student(*inputs))
        return self.last[1]


class FakeStream:
    def wait_stream(self, other):
        """Nothing is to be waited for on a CPU."""

    def synchronize(self):
        """As above."""


@pytest.fixture
def network(tiny_model):
    return Network(load_student(find_model(tiny_model())).to(DEVICE))


@pytest.fixture
def graphs(monkeypatch, network):
    """CUDA graphs that were made, by a fake where there is no GPU."""
    made = []
    if torch.cuda.is_available():  # pragma: no cover
        return made

    class Graph:
        def __init__(self):
            self.replays = 0
            made.append(self)

        def replay(self):
            self.replays += 1
            inputs, image = self.work
            image.copy_(network.student(*inputs))

    @contextmanager
    def record(graph, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        yield
        graph.work = network.last

    @contextmanager
    def on(stream):
        yield

    for name, fake in {
        "Stream": lambda device: FakeStream(),
        "current_stream": lambda device=None: FakeStream(),
        "stream": on,
        "CUDAGraph": Graph,
        "graph": record,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    return made


def made(**options):
    problem = sense_problem(
        options.pop("shape", (16, 24)), dtype=torch.float32, sigma=0.05, **options
    )[0]
    return mapped(problem, lambda tensor: tensor.to(DEVICE))


def run(runner, problem):
    return runner(problem.start, problem.adjoint, problem.normal, problem.noise)


@pytest.mark.parametrize("normal", ["column", "gram", "operator"])
def test_recorded_runs_are_those_of_their_own_problems(network, graphs, normal):
    runner = CudaRunner(network, DEVICE)
    with torch.inference_mode():
        images = []
        for acceleration in (2, 3, 4, 5, 2):  # what is replayed must have been given the new one
            problem = made(normal=normal, acceleration=acceleration)
            found = run(runner, problem)
            torch.testing.assert_close(found, solve(network.student, problem), rtol=0, atol=1e-5)
            images.append((found, found.clone()))
    assert runner.record
    assert network.runs == 1 + WARM_RUNS + 1  # the first one, and what is recorded
    for image, copy in images:
        assert torch.equal(image, copy)  # no later run has written to it
    for i, (image, _) in enumerate(images[:3]):
        assert not torch.allclose(image, images[i + 1][0], atol=1e-3)


def test_another_matrix_is_recorded_anew(network, graphs):
    runner = CudaRunner(network, DEVICE)
    with torch.inference_mode():
        for shape in ((16, 24), (16, 24), (24, 16), (16, 24), (16, 24), (16, 24)):
            problem = made(shape=shape)
            torch.testing.assert_close(
                run(runner, problem), solve(network.student, problem), rtol=0, atol=1e-5
            )
    assert network.runs == 3 + 2 * (WARM_RUNS + 1)


def test_a_run_is_not_recorded_where_that_is_not_wanted(network, graphs):
    runner = CudaRunner(network, DEVICE, record=False)
    with torch.inference_mode():
        for _ in range(3):
            run(runner, made())
    assert network.runs == 3
    assert graphs == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU records it")
def test_where_recording_fails_kernels_are_launched_one_by_one(
    network, graphs, monkeypatch, caplog
):
    def fail():
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", fail)
    runner = CudaRunner(network, DEVICE)
    with torch.inference_mode():
        for _ in range(4):
            problem = made()
            torch.testing.assert_close(
                run(runner, problem), solve(network.student, problem), rtol=0, atol=1e-5
            )
    assert len(caplog.records) == 1
    assert "recording failed (CUDA error: operation not permitted" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU records it")
def test_what_was_in_the_way_of_recording_may_pass(network, graphs, monkeypatch, caplog):
    graph, failures = torch.cuda.CUDAGraph, [RuntimeError("CUDA out of memory")] * 2

    def twice():
        if failures:
            raise failures.pop()
        return graph()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", twice)
    runner = CudaRunner(network, DEVICE)
    problem = made()
    with torch.inference_mode():
        expected = solve(network.student, problem)
        for _ in range(RETRY**2 + 1):
            torch.testing.assert_close(run(runner, problem), expected, rtol=0, atol=1e-5)
    assert failures == []
    assert len(caplog.records) == 2
    (recorded,) = graphs
    assert recorded.replays == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU records it")
def test_one_engine_records_at_a_time(network, graphs, monkeypatch):
    """CUDA lets nobody wait for the GPU while somebody records, and recording begins with that."""
    inside, most = [], []
    record = torch.cuda.graph

    @contextmanager
    def watched(*words, **more):
        inside.append(1)
        most.append(len(inside))
        with record(*words, **more):
            yield
            time.sleep(0.05)
        inside.pop()

    monkeypatch.setattr(torch.cuda, "graph", watched)
    others = [Network(network.student) for _ in range(3)]
    runners = [CudaRunner(other, DEVICE) for other in others]
    problem = made()

    def scan(runner):
        with torch.inference_mode():
            for _ in range(2):
                run(runner, problem)

    with torch.inference_mode():
        run(network, problem)  # what the fake replays
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(scan, runners))
    assert most == [1, 1, 1]


def test_runs_of_several_threads_take_turns(network, graphs):
    """They share memory: a run between another one's inputs and its image would spoil that."""
    runner = CudaRunner(network, DEVICE)
    student, inside, most = network.student, SimpleNamespace(now=0), []
    lock = threading.Lock()

    def watched(*inputs):
        with lock:
            inside.now += 1
            most.append(inside.now)
        image = student(*inputs)
        with lock:
            inside.now -= 1
        return image

    network.student = watched
    problems = [made(acceleration=r) for r in (2, 3, 4, 5)] * 3

    def one(problem):
        with torch.inference_mode():
            return run(runner, problem)

    with ThreadPoolExecutor(4) as threads:
        images = list(threads.map(one, problems))
    assert max(most) == 1
    with torch.inference_mode():
        for image, problem in zip(images, problems, strict=True):
            torch.testing.assert_close(image, solve(student, problem), rtol=0, atol=1e-5)
