import subprocess
import sys
import tempfile

import click
import pytest

from chpnet_stream import __version__
from chpnet_stream.cli.main import VERBS, cli, main

HEAVY = {"torch", "h5py", "ismrmrd", "numpy", "onnxruntime", "gadgetron", "pydantic", "rich"}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chpnet_stream", *words], capture_output=True, text=True, timeout=60
    )


def imported_by(*words: str) -> set[str]:
    code = (
        "import sys\n"
        "from chpnet_stream.cli.main import main\n"
        "try:\n"
        f"    main({list(words)!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "print('\\n'.join(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return set(out.stdout.split())


def test_help_lists_every_verb() -> None:
    out = run("--help")
    assert out.returncode == 0
    for verb, text in VERBS.items():
        assert verb in out.stdout
        assert text.split()[0] in out.stdout


@pytest.mark.parametrize("words", [["--help"], ["simulate", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    modules = imported_by(*words)
    assert "chpnet_stream.cli.main" in modules
    assert not HEAVY & modules


def test_a_verb_imports_no_other_verb() -> None:
    modules = imported_by("simulate", "--help")
    verbs = {name for name in modules if name.startswith("chpnet_stream.cli.cmd_")}
    assert verbs == {"chpnet_stream.cli.cmd_simulate"}


def test_version() -> None:
    assert run("--version").stdout.strip() == f"chpnet-stream, version {__version__}"


def test_nothing_takes_the_place_of_a_standard_file_that_is_closed() -> None:
    """A socket could have had it: what a library prints would have gone into a scan."""
    code = (
        "import os, sys\n"
        "from chpnet_stream.cli.main import main\n"
        "try:\n"
        "    main(['--version'])\n"
        "finally:\n"
        "    found = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "    open(sys.argv[1], 'w').write(' '.join(found))\n"
    )
    with tempfile.NamedTemporaryFile("r") as told:
        words = [sys.executable, "-c", code, told.name]
        subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], timeout=60)
        assert told.read() == "/dev/null /dev/null /dev/null"


def test_doctor_needs_no_standard_error() -> None:
    words = [sys.executable, "-m", "chpnet_stream", "doctor", "--answers", "1", "--json"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *words], stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert '"ok":false' in done.stdout


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_its_module(verb: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, verb)
    assert isinstance(command, click.Command)
    assert command.help


def test_unknown_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["simulat"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("chpnet-stream: error: no command 'simulat', did you mean simulate?")
    assert error.count("\n") == 1


def test_no_verb_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "Commands:" in capsys.readouterr().err
