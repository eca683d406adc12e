"""A file that HDF5 writes to and that is never full for it.

Where a write fails, HDF5 can't even close its file: the process ends by a segmentation fault,
without a word. So it is not told: what finds no place is kept in memory until the file is closed,
and whoever writes asks by `check`.
"""

from __future__ import annotations

import os
from pathlib import Path


class Hdf5Disk:
    """A new file, for `h5py.File(disk, "w")`.

    Ask by `check` after each write: what is kept in memory is then what HDF5 still had to write.

    Attributes:
        error: Why something could not be written; None where all was.

    Args:
        path: The file to make; there must be none.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._kept: list[tuple[int, bytes]] = []
        self._at = 0
        self._end = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, in bytes; the new place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """The place, in bytes."""
        return self._at

    def write(self, data: bytes | memoryview) -> int:
        """Write at the place, to the disk or to memory; the number of bytes."""
        view = memoryview(data).cast("B")
        if self.error is None:
            try:
                done = 0
                while done < len(view):
                    done += os.pwrite(self._file, view[done:], self._at + done)
            except OSError as error:
                self.error = error
        if self.error is not None:
            self._kept.append((self._at, bytes(view)))
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read from the place on; the number of bytes. Zeros where nothing was written."""
        view = memoryview(buffer).cast("B")
        begin, size = self._at, len(view)
        done = 0
        while done < size and (part := os.pread(self._file, size - done, begin + done)):
            view[done : done + len(part)] = part
            done += len(part)
        view[done:] = bytes(size - done)
        for place, data in self._kept:
            first, last = max(begin, place), min(begin + size, place + len(data))
            if first < last:
                view[first - begin : last - begin] = data[first - place : last - place]
        self._at += size
        return size

    def read(self, size: int) -> bytes:
        """As `readinto`."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def truncate(self, size: int) -> int:
        """Set the length, in bytes."""
        self._end = size
        if self.error is None:
            try:
                os.ftruncate(self._file, size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing waits here."""

    def check(self) -> None:
        """Whether everything was written so far.

        Raises:
            OSError: It was not.
        """
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
