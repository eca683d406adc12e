"""Servers as a person starts them, each a process, with a look at what they hold."""

import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType


class ServerProcess:
    """`chpnet-stream serve` or `gadget` on a free port."""

    def __init__(self, door: str, *words: str) -> None:
        command = [sys.executable, "-m", "chpnet_stream", door, "--port", "0", "--threads", "1"]
        self.process = subprocess.Popen(
            [*command, "--model", "chpnet-rt", "--property", "method=cg-sense", *words],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.log: list[str] = []
        self.port = 0
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"listening on \S+ port (\d+)", line):
                self.port = int(found.group(1))
                break
        assert self.port, "".join(self.log)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> tuple[int, str]:
        """Ask it to end; its status and log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(150)
        finally:
            self.process.kill()
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status, "".join(self.log)

    def connect(self) -> socket.socket:
        """A new client."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=120)

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def status(self, name: str) -> int:
        """A number of /proc/PID/status: VmRSS (kB), Threads."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
        assert found is not None
        return int(found.group(1))
