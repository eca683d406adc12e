"""`chpnet-stream serve`: a warm server for MRD clients."""

from __future__ import annotations

import click

from chpnet_stream.cli.serving import (
    Serving,
    pairs,
    run_server,
    serving_options,
    start_server_log,
)
from chpnet_stream.cli.watching import Watching, watching_options


@click.command("serve")
@serving_options(port=9002, peers="clients")
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME=CONFIGURATION",
    help="Another name for a configuration, for clients that send a name of their own.",
)
@click.option("--list", "as_list", is_flag=True, help="List the configurations, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print that list as JSON.")
@watching_options
def command(
    serving: Serving,
    aliases: tuple[str, ...],
    as_list: bool,
    as_json: bool,
    watching: Watching,
) -> None:
    """Serve scans to MRD clients: FIRE, OpenRecon, `chpnet-stream send` and others.

    One port takes raw data and images: acquisitions are reconstructed, images enhanced. A client
    names a configuration (see --list), sends properties as XML or JSON, or neither. Scans are told
    in one line each, on stderr. SIGTERM or Ctrl-C lets the running scans finish; a second one ends
    at once.
    """
    from chpnet_stream.configurations import Configurations

    configurations = Configurations(pairs("--alias", aliases))
    if as_list:
        from chpnet_stream.cli.formatter import show_list

        found = configurations.listed()
        if not as_json:
            for one in found:
                one["properties"] = " ".join(f"{n}={v}" for n, v in one["properties"].items())
        show_list(found, title="Configurations", as_json=as_json)
        return
    from chpnet_stream.mrd_server import MrdServer

    serving.options()  # faults are told before anything is loaded
    start_server_log(as_json=watching.log_json)
    with watching.observers("serve") as observers:
        server = MrdServer(
            serving.host,
            serving.port,
            configurations=configurations,
            observers=observers,
            **serving.settings(),
        )
        run_server(server, "MRD clients", serving)
