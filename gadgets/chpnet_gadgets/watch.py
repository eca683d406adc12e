"""A small process beside a gadget that ends it when Gadgetron goes away while libraries load.

Loading torch holds the interpreter, on a busy machine for some seconds; no thread of the gadget
could notice meanwhile that there is nobody to work for. `Watch` starts this file as a script, which
imports next to nothing.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from types import TracebackType

GRACE_SECONDS = 0.3
"""How long the gadget may take to notice by itself, and to say more than this process can."""


class Watch:
    """Watches a gadget's socket until libraries and model are loaded.

    Does nothing on systems that can't tell that the other side has hung up (it takes Linux).

    Args:
        descriptor: File descriptor of the socket.
    """

    def __init__(self, descriptor: int) -> None:
        import subprocess

        self._process: subprocess.Popen[bytes] | None = None
        if not hasattr(select, "POLLRDHUP"):
            return
        import fcntl

        # Gadgetron closes standard input, and the socket takes its number, 0. There is our pipe.
        theirs = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            words = [sys.executable, "-I", "-S", __file__, str(theirs), str(os.getpid())]
            self._process = subprocess.Popen(  # noqa: S603 - this file, by this interpreter
                words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[theirs]
            )
        finally:
            os.close(theirs)

    def stop(self) -> None:
        """No more watching: from here on the gadget notices by itself."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()  # the end of its standard input is its end

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def watch(descriptor: int, gadget: int) -> None:
    """Wait until the gadget lets go of this process, or its peer hangs up.

    Args:
        descriptor: File descriptor of the gadget's socket.
        gadget: The gadget's process.
    """
    let_go = select.poll()
    let_go.register(sys.stdin.fileno(), select.POLLIN)
    either = select.poll()
    either.register(sys.stdin.fileno(), select.POLLIN)
    either.register(descriptor, select.POLLRDHUP)
    either.poll()
    if let_go.poll(1e3 * GRACE_SECONDS) or os.getppid() != gadget:
        return
    sys.stderr.write("chpnet-stream: Gadgetron went away while libraries were loading; ended\n")
    sys.stderr.flush()
    os.kill(gadget, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
