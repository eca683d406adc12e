"""`python -m chpnet_stream`: the same as the command `chpnet-stream`."""

from chpnet_stream.cli.main import main

main()
