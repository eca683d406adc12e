"""`python -m chpnet_training`: the same as the command `chpnet-train`."""

from chpnet_training.cli import main

main()
