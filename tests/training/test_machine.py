import platform
import socket
from importlib.metadata import version
from pathlib import Path

import torch

from chpnet_training.machine import describe_device, describe_machine, processor


def test_what_it_says():
    said = describe_machine()
    assert processor() in said
    assert "cores" in said
    assert platform.python_version() in said
    assert version("torch") in said
    assert version("lightning") in said


def test_it_says_nothing_private():
    said = describe_machine()
    assert str(Path.home()) not in said
    assert "/" not in said.replace(processor(), "")
    assert len(socket.gethostname()) < 3 or socket.gethostname() not in said


def test_the_processor_has_a_name():
    assert processor().strip()


def test_a_device_has_the_name_of_its_processor():
    assert describe_device(torch.device("cpu")) == processor()
