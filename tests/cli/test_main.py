import subprocess
import sys

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
