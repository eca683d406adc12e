"""What is said of processes that lose each other; two of them are in test_parallel.py."""

import pytest
from torch import distributed

from chpnet_training.optimization import TrainingError
from chpnet_training.processes import explained, note_step


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            RuntimeError(
                "[/gloo/transport/tcp/pair.cc:547] Connection closed by peer "
                "[127.0.0.1]:48021. This is typically caused by a remote worker. More"
            ),
            "found: Connection closed by peer [127.0.0.1]:48021; look",
        ),
        (RuntimeError("Application timeout caused pair closure"), "found: Application timeout"),
        (
            distributed.DistStoreError("Timed out after 601 seconds. 1/2 clients joined."),
            "found: Timed out after 601 seconds; look",
        ),
    ],
)
def test_errors_of_the_connection_are_explained_in_one_line(error, found):
    with pytest.raises(TrainingError, match="expected all processes") as caught, explained():
        raise error
    assert found in str(caught.value)
    assert "--collective-timeout" in str(caught.value)
    assert caught.value.__cause__ is error


def test_other_errors_stay_what_they_are():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as caught, explained():
        raise error
    assert caught.value is error


def test_a_process_alone_notes_nothing():
    assert not distributed.is_initialized()
    note_step(3)
