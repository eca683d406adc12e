"""A warm server for MRD clients: raw data and images, several scans at once."""

from __future__ import annotations

from typing import Any

from chpnet_stream.configurations import Configurations
from chpnet_stream.mrd.wire.connection import Connection, Peer
from chpnet_stream.scan.noise_store import NoiseStore
from chpnet_stream.server import ScanServer
from chpnet_stream.streaming.mrd_scan import MrdScan
from chpnet_stream.streaming.scan import Scan


class MrdServer(ScanServer):
    """Serves scans to MRD clients: FIRE, OpenRecon, python-ismrmrd-server's client, our `send`.

    The noise of a measurement is kept for later ones that refer to it.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        configurations: What clients may ask for.
        settings: As for `ScanServer`.

    Raises:
        ConfigurationError: The address can't be listened on.
    """

    peer: Peer = "mrd"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9002,
        *,
        configurations: Configurations | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(host, port, **settings)
        self.configurations = configurations or Configurations()
        self.noise = NoiseStore()

    def scan_of(self, connection: Connection, name: str) -> Scan:
        """See `ScanServer.scan_of`."""
        return MrdScan(
            connection,
            self.engines,
            self.defaults,
            name,
            self.patience,
            configurations=self.configurations,
            noise=self.noise,
            turn=self.turns.turn,
            observers=self.observers,
        )
