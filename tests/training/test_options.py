import math
import os
import signal

import pytest

from chpnet_training.options import Interrupts, Reporter
from chpnet_training.trainer import Progress


def test_the_first_interrupt_is_remembered_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as watch:
        assert not watch.asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert watch.asked()
        os.kill(os.getpid(), signal.SIGTERM)  # a patient one
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_terminal_there_is_a_line_for_every_validation(capsys):
    with Reporter("student", 0, 4) as report:
        report(Progress(1, 4, 1.0, math.nan, 0.1))
        report(Progress(2, 4, 0.0, 30.0, 0.1))
        report(Progress(3, 4, 0.0, 30.0, 0.1))
        report(Progress(4, 4, 0.0, 31.5, 0.1))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "step 2/4  loss 0.9500  PSNR 30.00 dB",
        "step 4/4  loss 0.8574  PSNR 31.50 dB",
    ]
    assert report.loss == pytest.approx(0.95**3)


def test_a_terminal_has_a_bar_with_loss_and_psnr(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with Reporter("student", 3, 8) as report:
        report(Progress(4, 8, 0.25, 30.5, 0.1))
        report._bar.refresh()
    shown = capsys.readouterr().err
    for word in ("training the student", "4/8", "loss 0.2500", "PSNR 30.50 dB"):
        assert word in shown


def test_other_processes_show_nothing(capsys):
    with Reporter("student", 0, 4, shown=False) as report:
        report(Progress(1, 4, 1.0, 30.0, 0.1))
    assert capsys.readouterr().err == ""
