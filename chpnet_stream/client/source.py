"""What is sent: a scan, or images, from an ISMRMRD file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from chpnet_stream.errors import EmptyScanError, NotAnMrdFileError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.expected import POSITION_FIELDS, Expected, expect
from chpnet_stream.mrd.files import ScanFile

Key = tuple[int, ...]


class Source:
    """A file to send from; use as a context manager.

    Attributes:
        header_xml: The scan's header; None where a file of images has none.
        total: Acquisitions and waveforms, or images, to be sent.
        expected: Keys of the images that must come back; empty where images are sent.
        images: How many images must come back.
        series: Images to be sent, by image_series_index; empty where acquisitions are sent.
        more_config: JSON parameters that lie in the file, as python-ismrmrd-server keeps them.

    Args:
        path: The file.
        group: HDF5 group of the scan.
        as_images: Send the images of the group instead of its acquisitions.

    Raises:
        InputError: The file can't be read.
    """

    def __init__(self, path: Path, group: str = "dataset", *, as_images: bool = False) -> None:
        self.as_images = as_images
        self.header_xml: bytes | None
        self._images: StoredImages | None = None
        self._scan: ScanFile | None = None
        self.expected = Expected(0, 0, (0, 0))
        self.series: Counter[int] = Counter()
        self.more_config = ""
        if as_images:
            self._images = StoredImages(path, group)
            self.header_xml = self._images.header_xml
            self.total = self.images = len(self._images)
            self.series = self._images.series()
            return
        self._scan = ScanFile(path, group)
        self.header_xml = self._scan.header.xml
        self.total = len(self._scan) + self._scan.number_of_waveforms
        self.expected = expect(self._scan)
        self.images = self.expected.images
        more = self._scan.stored_array("configAdditional")
        if more is not None:
            value = np.asarray(more).ravel()[0]
            self.more_config = value.decode("utf-8") if isinstance(value, bytes) else str(value)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._scan, self._images):
            if file is not None:
                file.close()

    @property
    def scan(self) -> ScanFile | None:
        """The file of acquisitions; None where images are sent."""
        return self._scan

    def items(self) -> Iterator[Any]:
        """Everything to send, in the order of time."""
        if self._scan is not None:
            yield from self._scan.items(check=False)
        elif self._images is not None:
            yield from self._images

    def stamps_are_there(self) -> bool:
        """Whether the scan can be paced: it has more than one time stamp."""
        if self._scan is None:
            return False
        seen: set[int] = set()
        for heads in self._scan.heads():
            seen.update(np.unique(heads["acquisition_time_stamp"]).tolist())
            if len(seen - {0}) > 1:
                return True
        return False

    def key_of_line(self, item: Any) -> Key | None:
        """The image that a line is for; None for everything that is no image line."""
        if self._scan is None or not hasattr(item, "idx") or not flags.is_image(int(item.flags)):
            return None
        return tuple(int(getattr(item.idx, name)) for name in POSITION_FIELDS)

    def key_of_image(self, image: Any) -> Key:
        """The lines that an image was made of, as far as its header tells."""
        first, *rest = (int(getattr(image, name)) for name in POSITION_FIELDS)
        partitions = self.expected.partitions
        if partitions > 1 and int(image.matrix_size[2]) == 1:
            first //= partitions  # every partition is an image of its own
        return (first, *rest)


class StoredImages:
    """The images of a group, whatever series they are in.

    Args:
        path: The file.
        group: HDF5 group that has `image_<n>` below it.

    Raises:
        NotAnMrdFileError: There is no such file or group, or it has no images.
        EmptyScanError: All its series are empty.
    """

    def __init__(self, path: Path, group: str) -> None:
        import h5py

        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise NotAnMrdFileError(
                f"{path} can't be read as an HDF5 file ({str(error).splitlines()[0]}); expected an "
                "ISMRMRD file with images"
            ) from error
        found = self._file.get(group)
        self._series = [
            item
            for _, item in sorted(found.items() if isinstance(found, h5py.Group) else ())
            if isinstance(item, h5py.Group) and {"header", "data", "attributes"} <= set(item)
        ]
        self.header_xml: bytes | None = None
        if not self._series:
            there = ", ".join(sorted(found or self._file)) or "nothing"
            self._file.close()
            raise NotAnMrdFileError(
                f"{path}: no images in /{group} (there is: {there}); choose the group with --group"
            )
        if "xml" in found:
            value = np.asarray(found["xml"][()]).ravel()[0]
            self.header_xml = value.encode("utf-8") if isinstance(value, str) else bytes(value)
        if not len(self):
            self._file.close()
            raise EmptyScanError(f"{path}: /{group} has 0 images, expected at least one")

    def __len__(self) -> int:
        return sum(int(series["header"].shape[0]) for series in self._series)

    def series(self) -> Counter[int]:
        """How many images there are of every image_series_index."""
        heads = (head for series in self._series for head in _heads(series))
        return Counter(int(head.image_series_index) for head in heads)

    def __iter__(self) -> Iterator[Any]:
        """The images, `ismrmrd.Image`, with their meta unparsed."""
        from chpnet_stream.mrd.wire.image import WireImage

        for series in self._series:
            for number, head in enumerate(_heads(series)):
                text = series["attributes"][number]
                raw = text if isinstance(text, bytes) else str(text).encode("utf-8")
                image = WireImage(head, raw)
                pixels = np.asarray(series["data"][number])
                if pixels.dtype.names:
                    pixels = pixels["real"] + 1j * pixels["imag"]
                image.data[...] = pixels.reshape(image.data.shape)
                yield image

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _heads(series: Any) -> Iterator[Any]:
    """The headers of a series in a file, `ismrmrd.ImageHeader`."""
    from ismrmrd.image import ImageHeader

    for number in range(series["header"].shape[0]):
        yield ImageHeader.from_buffer_copy(series["header"][number].tobytes())
