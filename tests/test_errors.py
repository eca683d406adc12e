import subprocess
import sys

import pytest

from chpnet_stream import errors

CLASSES = [
    item
    for item in vars(errors).values()
    if isinstance(item, type) and issubclass(item, BaseException)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_belongs_to_the_tree_and_has_an_exit_code(kind):
    assert issubclass(kind, errors.ChpnetError)
    assert kind.exit_code in (1, 2)
    assert kind.__doc__


def test_bad_input_exits_with_2_and_our_own_failures_with_1():
    assert errors.NotAnMrdFileError("x").exit_code == 2
    assert errors.OutputExistsError("x").exit_code == 2
    assert errors.ConfigurationError("x").exit_code == 2
    assert errors.EngineError("x").exit_code == 1
    assert errors.ChpnetError("x").exit_code == 1


def test_importing_errors_imports_nothing_heavy():
    code = (
        "import sys, chpnet_stream.errors; "
        "print([m for m in ('numpy', 'torch', 'h5py', 'ismrmrd') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    """A quoted name may be anybody's: it must not forge lines of a log, or move a cursor."""
    error = errors.InputError("found 'a\nb\x1b[2Jc\u202e\x00d', expected  one line;\tdo this")
    assert str(error) == "found 'a b\ufffd[2Jc\ufffd\ufffdd', expected one line; do this"
    assert str(errors.InputError("größer als 3 µs × 2")) == "größer als 3 µs × 2"
    assert str(errors.InputError()) == ""
