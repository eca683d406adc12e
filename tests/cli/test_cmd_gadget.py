import pytest

from chpnet_stream.cli.main import main


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--property", "method"], "--property method: expected NAME=VALUE"),
        (["--property", "methd=rss"], "'methd'"),
        (["--property", "deadline_ms=soon"], "'soon'"),
        (["--host", "203.0.113.1"], "can't listen on 203.0.113.1 port 18000"),
        (["--gadget", "pictures"], "'pictures' is not one of"),
    ],
)
def test_what_cannot_be_served_is_told(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["gadget", *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
