"""Options that are settings say what the schema says, in every command."""

import importlib

import click
import pytest

from chpnet_stream.cli.main import VERBS
from chpnet_stream.cli.settings import setting_option
from chpnet_stream.schema import SETTINGS


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_choices_are_those_of_the_schema(verb: str) -> None:
    command = importlib.import_module(f"chpnet_stream.cli.cmd_{verb}").command
    for option in command.params:
        setting = SETTINGS.get(option.name)
        if setting is not None and isinstance(option.type, click.Choice):
            assert tuple(option.type.choices) == setting.choices, option.name


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_becomes_an_option(name: str) -> None:
    @click.command()
    @setting_option(name)
    def command(**values: object) -> None:
        """Nothing."""

    setting = SETTINGS[name]
    context = command.make_context("x", [])
    assert context.params == {name: setting.default}
    assert type(context.params[name]) is type(setting.default)
    if setting.choices:
        flag = f"--{name.replace('_', '-')}"
        last = setting.choices[-1]
        assert command.make_context("x", [flag, last.upper()]).params == {name: last}
        with pytest.raises(click.BadParameter):
            command.make_context("x", [flag, "none of these"])
