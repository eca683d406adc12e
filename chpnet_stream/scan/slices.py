"""Acquisitions in, complete slices of k-space out."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from chpnet_stream.errors import BadSamplesError, InconsistentScanError, UnsupportedScanError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.header import Encoding, ScanHeader
from chpnet_stream.scan.calibration import Calibration, CalibrationStore, Key
from chpnet_stream.scan.coil_count import check_coils
from chpnet_stream.scan.completeness import missing_lines, seems_complete
from chpnet_stream.scan.lines import Grid, Lines, SparseLines
from chpnet_stream.size_limits import VARIABLE, configured_limits, size_limit

SELF_CALIBRATION = 16
"""Lines on either side of the centre that serve as calibration where none are flagged, at most."""

LARGEST_ENERGY = 1e30
"""Sum of the squared samples of a line; behind it, single precision does not hold an image."""

MOST_OPEN = 256
MOST_OPEN_BYTES = 4 * 2**30
MOST_PROMISED = 4096
"""Slices that may be open where the header promises them; their memory is `MOST_SLICE_BYTES`."""
MOST_SLICE_BYTES = 16 * 2**30
MOST_LOOKS = 2
"""Snapshots of one slice: where lines come in another order than usual, the work would be in vain.
"""

log = logging.getLogger(__name__)


@dataclass
class Slice:
    """One slice of k-space (of a 3-D scan: one partition, already transformed along kz).

    Attributes:
        kspace: complex64 `coils ky kx`, centre at n // 2, averages divided by their count, readout
            oversampling removed; zero where nothing was measured.
        sampled: averages measured in each line, int32 `ky`; 0 where none.
        calibration: complex64 `coils ky kx` on the same grid; None where the scan has none.
        calibrated: lines of `calibration` that were measured, bool `ky`.
        calibration_version: the same for slices that share the same calibration at one position.
        head: header (`ismrmrd.AcquisitionHeader`) of the acquisition nearest the k-space centre.
        counters: slice, contrast, phase, repetition, set, partition (0 in 2-D), average (the last).
        encoding: the encoding of the header that the data belong to.
        complete: False where lines are missing that were expected.
        missing_lines: how many.
        first_time_stamp: acquisition_time_stamp, the smallest.
        last_time_stamp: the largest.
        echo_samples: first and past-the-last kx index measured; samples beyond are no data, though
            oversampling removal leaves small values there.
        received_at: `time.monotonic()` when the last readout arrived.
        edges: first-in and last-in flags of all lines together, for the image header;
            last-in-measurement only in the last slice or partition of a scan that had the flag.
        serial: the same as that of the `GrowingSlice` that it was; 0 where it was none.
        filled: noise in each line relative to one that was measured in all partitions, float32
            `ky` (`Lines.filled`); None in 2-D.
    """

    kspace: np.ndarray
    sampled: np.ndarray
    calibration: np.ndarray | None
    calibrated: np.ndarray
    calibration_version: int
    head: Any
    counters: dict[str, int]
    encoding: Encoding
    complete: bool
    missing_lines: int
    first_time_stamp: int
    last_time_stamp: int
    echo_samples: tuple[int, int]
    received_at: float
    edges: int
    serial: int = 0
    filled: np.ndarray | None = None

    @property
    def noise_averages(self) -> np.ndarray:
        """Averages that each line has the noise of, `ky`; 0 where it was not measured.

        More than `sampled` where a line of a 3-D scan lacks partitions.
        """
        if self.filled is None:
            return self.sampled
        share = np.where(self.filled > 0, self.filled, 1).astype(np.float32)
        return self.sampled / share


@dataclass(frozen=True)
class GrowingSlice:
    """A slice that is still being measured, as of its newest line.

    Attributes:
        serial: its number.
        lines: its image lines; they go on changing.
        filling: its calibration lines that are no image lines; where there is no image line in the
            end, they will be in its place.
        echo_samples: first and past-the-last kx index measured so far.
        snapshot: gives the slice as it would be if it ended here. None where its calibration lines
            are not known to be whole, or where that was asked for before.
    """

    serial: int
    lines: Lines
    filling: SparseLines
    echo_samples: tuple[int, int]
    snapshot: Callable[[], Slice] | None


@dataclass
class _Open:
    """A slice that is still being measured."""

    key: Key
    image: Lines
    serial: int
    looked_at: int = -1
    looks: int = 0
    calibration_average: int = -1
    calibration: SparseLines = field(default_factory=SparseLines)
    calibration_only: SparseLines = field(default_factory=SparseLines)
    nearest: Any = None
    distance: float = np.inf
    has_image: bool = False
    average: int = 0
    stamps: tuple[int, int] = (2**32, 0)
    echo: tuple[int, int] = (2**31, 0)
    received_at: float = 0.0
    edges: int = 0
    lines: int = 0
    plane: int = -1
    gridded: tuple[SparseLines, int, Lines] | None = None


class SliceAssembler:
    """Puts acquisitions together to slices, and yields each as soon as it is complete.

    A slice is complete with its last-in-slice flag (or that of another contrast, phase or set with
    the same lines, where all are there), with the last-in-repetition flag of the scan, with its
    last-in-measurement flag where its lines are there, when its counters move on (another
    repetition of the same slice begins, or, in scans without last-in-slice flags, another slice
    begins and all expected lines are there), and at the end of the scan. With averages, flags count
    in the last average. Where lines are missing at a last-in-slice flag, a line of another slice is
    waited for: all of an echo train may have it. A last-in-repetition flag beside a last-in-slice
    flag is that of the slice, and of others with the same lines.

    Noise (flag 19) and the kinds that are no image data are counted in `counts`, not used.

    Args:
        header: the scan's header.
        max_open: slices that may be open at once; beyond, the oldest is given out incomplete, and
            a scan in which that happens to the same slice again is refused.
        max_open_bytes: the same as a limit of memory (one slice may always be open).
        max_slice_bytes: a scan whose slices take more than this is refused. These three are
            those of `CHPNET_LIMITS` by default, else the usual ones. Where nobody sets the first
            two, what the header promises of slices, contrasts, phases and sets may be open, too.
        calibration_mode: overrides the header's.
    """

    def __init__(
        self,
        header: ScanHeader,
        max_open: int | None = None,
        max_open_bytes: int | None = None,
        max_slice_bytes: int | None = None,
        calibration_mode: str | None = None,
    ) -> None:
        header.check()
        self.header = header
        limits = {"open_slices", "open_slices_bytes"} & configured_limits().keys()
        usual = max_open is None and max_open_bytes is None and not limits
        self._promised = _promised(header) if usual else 0
        if max_open is None:
            max_open = size_limit("open_slices", MOST_OPEN)
        if max_open_bytes is None:
            max_open_bytes = size_limit("open_slices_bytes", MOST_OPEN_BYTES)
        if max_slice_bytes is None:
            max_slice_bytes = size_limit("slice_bytes", MOST_SLICE_BYTES)
        self.max_open = max(1, max_open)
        self.max_open_bytes = max_open_bytes
        self.max_slice_bytes = max_slice_bytes
        self.counts: Counter[str] = Counter()
        self.coils = 0
        self._mode = calibration_mode
        self._grid: Grid | None = None
        self._store: CalibrationStore | None = None
        self._open: OrderedDict[Key, _Open] = OrderedDict()
        self._ending: dict[Key, int] = {}
        self._flags_end = False
        self._is_last = False
        self._cut_off: dict[Key, None] = {}
        self._held: dict[tuple[int, ...], list[tuple[_Open, int]]] = {}
        self._slice_flags = False
        self._serial = 0
        self._newest: _Open | None = None
        self._newest_calibrates = False
        self._usual_calibration = 0

    def assemble(self, acquisitions: Iterable[Any]) -> Iterator[Slice]:
        """All slices of a sequence of acquisitions, `flush` included."""
        for acquisition in acquisitions:
            yield from self.feed(acquisition)
        yield from self.flush()

    @property
    def open_slices(self) -> int:
        """Slices begun and not given out yet."""
        return len(self._open) + sum(map(len, self._held.values()))

    def feed(self, acquisition: Any, received_at: float | None = None) -> list[Slice]:
        """Take one acquisition; returns the slices that it completes, oldest first.

        Raises:
            UnsupportedScanError: image data of a second encoding space, or of one that can't be
                reconstructed; more slices measured at the same time than may be open.
            InconsistentScanError: another number of coils, none, too many, or a line outside the
                matrix.
            BadSamplesError: NaN, infinite or absurdly large samples.
        """
        mask = int(acquisition.flags)
        self._newest = None
        self.counts["acquisitions"] += 1
        if mask & flags.NOISE:
            self.counts["noise"] += 1
            return []
        if flags.is_skipped(mask):
            for name in flags.names(mask & flags.SKIPPED):
                self.counts[name] += 1
            return self._after(acquisition, mask)
        image, calibration = flags.is_image(mask), flags.is_calibration(mask)
        self.counts["image" if image else "calibration only"] += 1
        if image and calibration:
            self.counts["calibration and image"] += 1
        grid, store = self._prepare(acquisition, image)
        if grid.encoding.index != acquisition.encoding_space_ref:
            self.counts["calibration in another encoding space"] += 1
            return []
        self._check(acquisition)
        row = grid.place(acquisition)
        samples, echo = grid.readout.place(acquisition)
        key = _key(acquisition)
        if not image and store.maps_only:
            store.add_separate(key[0], row, samples)
            return self._after(acquisition, mask)
        done = self._ended(key)
        done += [] if key in self._open else self._moved_on(key)
        slot = self._slot(key, grid)
        self._newest, self._newest_calibrates = slot, calibration
        if image:
            self._check_plane(slot, acquisition)
            slot.image.add(row, samples)
            slot.has_image = True
        else:
            slot.calibration_only.add(row, samples)
        if calibration:
            slot.calibration.add(row, samples)
            slot.calibration_average = int(acquisition.idx.average)
        self._note(slot, acquisition, row, echo, image, received_at)
        return self._marked(done + self._after(acquisition, mask) + self._evicted())

    @property
    def growing(self) -> GrowingSlice | None:
        """The open slice that the last line fed belongs to; None where it has ended, and in 3-D."""
        slot = self._newest
        if slot is None or not slot.has_image or self._known_grid().shape[0] > 1:
            return None
        snapshot = partial(self._snapshot, slot) if self._is_calibrated(slot) else None
        return GrowingSlice(slot.serial, slot.image, slot.calibration_only, slot.echo, snapshot)

    def _is_calibrated(self, slot: _Open) -> bool:
        """Whether the calibration lines of an open slice seem to be all there.

        They are where lines without the flag follow them, in the last average, and as many came as
        in the slice before. What is believed here is checked when the slice ends.
        """
        grid, store = self._known_grid(), self._store
        if store is None or store.interleaved or self._newest_calibrates:
            return False
        last = grid.encoding.limit("average").maximum
        own = slot.calibration.added
        if own and slot.calibration_average < last:
            return False
        if own == slot.looked_at or own < self._usual_calibration or slot.looks >= MOST_LOOKS:
            return False
        if own == 0 and store.peek(slot.key, slot.calibration) is None:
            there = slot.image.count[0] > last
            centre = len(there) // 2
            return bool(there[max(centre - SELF_CALIBRATION, 0) : centre + SELF_CALIBRATION].all())
        return True

    def _snapshot(self, slot: _Open) -> Slice:
        slot.looked_at = slot.calibration.added
        slot.looks += 1
        calibration = self._store.peek(slot.key, slot.calibration) if self._store else None
        (data,) = self._slices(slot, 0, calibration)
        return data

    def flush(self) -> list[Slice]:
        """Everything that is still open, oldest first: call it at the end of the scan."""
        ended = set(self._ending)
        done = [s for key in list(self._open) for s in self._close(key, flagged=key in ended)]
        for group in list(self._held):
            done += self._release(group)
        return self._marked(done)

    def end_block(self) -> list[Slice]:
        """Close the open slices as if flagged, for lines that came gathered (buckets, buffers).

        Slices that wait for other averages, or for interleaved calibration, go on waiting.
        """
        if self._grid is None:
            return []
        averages = self._grid.encoding.limit("average").maximum
        whole = [key for key, slot in self._open.items() if slot.average >= averages]
        return self._marked([s for key in whole for s in self._close(key, flagged=True)])

    def _prepare(self, acquisition: Any, image: bool) -> tuple[Grid, CalibrationStore]:
        """Grid and calibration store, made by the first image or calibration acquisition."""
        index = int(acquisition.encoding_space_ref)
        if self._grid is not None and self._store is not None:
            known = self._grid.encoding.index
            if image and index != known and self.counts["image"] == 1:
                self._drop_calibration()  # so far there was nothing else
            elif image and index != known:
                raise UnsupportedScanError(
                    f"acquisition {acquisition.scan_counter} has image data of encoding space "
                    f"{index}, those before it of {known}; expected one encoding space with image "
                    "data, split the scan"
                )
            else:
                return self._grid, self._store
        if index >= len(self.header.encodings):
            raise InconsistentScanError(
                f"acquisition {acquisition.scan_counter} belongs to encoding space {index}, the "
                f"header has {len(self.header.encodings)}; rewrite the header"
            )
        encoding = self.header.encodings[index]
        found = encoding.problems()
        if found and not image and len(self.header.encodings) > 1:
            # Calibration first: the image encoding is one that can be reconstructed.
            encoding = next(e for e in self.header.encodings if not e.problems())
        elif found:
            raise UnsupportedScanError("this scan can't be reconstructed: " + "; ".join(found))
        self._grid = Grid.of(encoding)
        self._store = CalibrationStore(encoding, self._mode)
        return self._grid, self._store

    def _drop_calibration(self) -> None:
        """Forget calibration lines of another encoding space than that of the image data."""
        self._open.clear()
        self.coils = 0

    def _check(self, acquisition: Any) -> None:
        coils = acquisition.data.shape[0]
        if self.coils == 0:
            check_coils(acquisition)
            self.coils = coils
        if coils != self.coils:
            raise InconsistentScanError(
                f"acquisition {acquisition.scan_counter} (slice {acquisition.idx.slice}, line "
                f"{acquisition.idx.kspace_encode_step_1}) has {coils} coils, those before it "
                f"{self.coils}; expected the same number in all"
            )
        data = acquisition.data
        if not np.vdot(data, data).real < LARGEST_ENERGY:  # NaN isn't
            finite = np.isfinite(data).all()
            found = (
                f"samples up to {np.abs(data).max():.0e}" if finite else "NaN or infinite samples"
            )
            raise BadSamplesError(
                f"acquisition {acquisition.scan_counter} (number {self.counts['acquisitions'] - 1} "
                f"of the scan, slice {acquisition.idx.slice}, line "
                f"{acquisition.idx.kspace_encode_step_1}) has {found}, expected finite numbers "
                f"below {LARGEST_ENERGY**0.5:.0e}; convert or acquire it again"
            )

    def _check_plane(self, slot: _Open, acquisition: Any) -> None:
        """Refuse partitions of a slab that the header calls a slice: they would be summed."""
        step = int(acquisition.idx.kspace_encode_step_2)
        if self._known_grid().shape[0] == 1 and slot.plane not in (-1, step):
            raise InconsistentScanError(
                f"acquisition {acquisition.scan_counter} (slice {slot.key[0]}) has "
                f"kspace_encode_step_2 = {step}, lines of the same slice before it {slot.plane}, "
                "but encodedSpace has one partition; write the true matrix into the header"
            )
        slot.plane = step

    def _slot(self, key: Key, grid: Grid) -> _Open:
        slot = self._open.get(key)
        if slot is None:
            size = self.coils * math.prod(grid.shape) * np.dtype(np.complex64).itemsize
            if size > self.max_slice_bytes:
                z, y, x = grid.shape
                raise UnsupportedScanError(
                    f"a slice of {self.coils} coils with {z} x {y} x {x} samples takes "
                    f"{size / 2**30:.1f} GiB, expected at most {self.max_slice_bytes / 2**30:.1f} "
                    f"GiB; check the header, use fewer coils, or set {VARIABLE}=slice_bytes=..."
                )
            self._serial += 1
            slot = self._open[key] = _Open(key, Lines(self.coils, grid.shape), self._serial)
        return slot

    def _note(
        self,
        slot: _Open,
        acquisition: Any,
        row: tuple[int, int],
        echo: tuple[int, int],
        image: bool,
        received_at: float | None,
    ) -> None:
        grid = self._known_grid()
        nz, ny, _ = grid.shape
        # Pure calibration stands in for the header only where there is nothing better.
        distance = np.hypot(row[1] - ny // 2, row[0] - nz // 2) + (0.0 if image else 1e6)
        if distance < slot.distance:
            slot.distance, slot.nearest = float(distance), acquisition
        stamp = int(acquisition.acquisition_time_stamp)
        slot.stamps = (min(slot.stamps[0], stamp), max(slot.stamps[1], stamp))
        if image:
            slot.echo = (min(slot.echo[0], echo[0]), max(slot.echo[1], echo[1]))
        slot.lines += 1
        slot.average = max(slot.average, int(acquisition.idx.average))
        slot.received_at = time.monotonic() if received_at is None else received_at
        slot.edges |= int(acquisition.flags) & flags.IMAGE_EDGES

    def _known_grid(self) -> Grid:
        if self._grid is None:
            raise InconsistentScanError("no image data yet")
        return self._grid

    def _after(self, acquisition: Any, mask: int) -> list[Slice]:
        """Close what the flags of this acquisition end."""
        ended = _key(acquisition)
        slot = self._open.get(ended)
        if slot is not None and slot.has_image:  # not of separate calibration
            self._slice_flags |= bool(mask & flags.LAST_IN_SLICE)
        if not mask & (flags.LAST_IN_SLICE | flags.LAST_IN_REPETITION | flags.LAST_IN_MEASUREMENT):
            if ended in self._ending and self._is_whole(ended):
                return self._close(ended, flagged=True)
            return []
        if mask & flags.LAST_IN_MEASUREMENT:
            return self._measurement_ended(ended, acquisition)
        if self._grid is None:
            return []
        averages = self._grid.encoding.limit("average").maximum
        if acquisition.idx.average < averages:
            return []
        # Of slices that are measured in turn, each may have both flags in its last line.
        rest = mask & flags.LAST_IN_REPETITION and not mask & flags.LAST_IN_SLICE
        keys = [] if slot is None else self._alike(ended, slot)
        if mask & flags.LAST_IN_REPETITION:
            keys = [key for key in self._open if key[3] == ended[3]]
        keys = [key for key in keys if self._may_end(key, ended, bool(rest))]
        over = [key for key in keys if rest or self._is_whole(key, acquisition)]
        for key in keys:
            if key not in over:
                self._ending.setdefault(key, self._open[key].lines)
        return [s for key in over for s in self._close(key, flagged=True)]

    def _measurement_ended(self, ended: Key, acquisition: Any) -> list[Slice]:
        """Close what has its lines. All of an echo train, or all echoes, may have this flag.

        What lacks lines waits for them, or for the end of the scan.
        """
        over = [
            key
            for key, slot in self._open.items()
            if not slot.has_image
            or (self._may_end(key, ended, rest=False) and self._is_whole(key, acquisition))
        ]
        if ended in self._open and ended not in over:
            self._ending.setdefault(ended, self._open[ended].lines)
        self._is_last = True
        return self._marked([s for key in over for s in self._close(key, flagged=True)])

    def _marked(self, done: list[Slice]) -> list[Slice]:
        """Of several slices, or partitions of a slab, only the last ends the measurement."""
        if done and self._is_last and not self.open_slices:
            done[-1].edges |= flags.LAST_IN_MEASUREMENT
            self._is_last = False
        return done

    def _may_end(self, key: Key, ended: Key, rest: bool) -> bool:
        """Whether a last flag of `ended` may be one of the slice `key`, too.

        Args:
            key: A slice that is open.
            ended: The counters of the line with the flag.
            rest: It is the end of all that is open.
        """
        other, slot = self._open[key], self._open.get(ended)
        if not other.has_image or not (rest or self._has_all_partitions(other)):
            return False
        if rest or key == ended or slot is None:
            return True
        if np.array_equal(other.image.count, slot.image.count):
            return True
        encoding = self._known_grid().encoding
        missing = missing_lines(other.image, other.calibration, encoding, flagged=False)
        return other.lines >= slot.lines and not missing

    def _is_whole(self, key: Key, acquisition: Any = None) -> bool:
        """Whether a slice with a last flag has its lines: between the first and the last of them.

        Where some were missing at an earlier flag, all of the limits must be there. The line with
        the flag is the last one of its partition: of a slab, all must have come to it.
        """
        if self._flags_end:
            return True
        grid, slot, first = self._known_grid(), self._open[key], key not in self._ending
        if missing_lines(slot.image, slot.calibration, grid.encoding, first):
            return False
        if not first or grid.shape[0] == 1 or acquisition is None or _key(acquisition) != key:
            return True
        if not flags.is_image(int(acquisition.flags)):
            return True
        there = slot.image.count > 0
        return bool(there[there.any(axis=1), grid.place(acquisition)[1]].all())

    def _ended(self, key: Key) -> list[Slice]:
        """Close slices with a last flag and missing lines, now that a line of `key` comes.

        Where none came behind the flag, it is believed from now on.
        """
        over = [ending for ending in self._ending if ending != key]
        self._flags_end |= any(self._ending[e] == self._open[e].lines for e in over)
        return [s for ending in over for s in self._close(ending, flagged=True)]

    def _alike(self, ended: Key, slot: _Open) -> list[Key]:
        """A slice that has its last flag, and its contrasts, phases and sets with the same lines.

        Where echoes are measured line by line, the last one of them may have the flag for all.
        """
        encoding = self._known_grid().encoding
        return [
            key
            for key, other in self._open.items()
            if key == ended
            or (
                (key[0], key[3]) == (ended[0], ended[3])
                and slot.has_image
                and np.array_equal(other.image.count, slot.image.count)
                and other.calibration_only.added == slot.calibration_only.added
                and seems_complete(other.image, encoding)
            )
        ]

    def _has_all_partitions(self, slot: _Open) -> bool:
        """False where a 3-D slab has its last-in-slice flag in every partition."""
        grid = self._known_grid()
        if grid.shape[0] == 1:
            return True
        measured = int((slot.image.count.max(axis=1) > 0).sum())
        return measured >= min(grid.encoding.limit("kspace_encoding_step_2").count, grid.shape[0])

    def _moved_on(self, key: Key) -> list[Slice]:
        """Close what is over now that a slice with counters `key` begins."""
        done: list[Slice] = []
        for old in list(self._open):
            same_place = old[0] == key[0]
            if same_place and old[3] != key[3]:
                done += self._close(old, flagged=False)
            elif not same_place and not self._slice_flags:
                slot = self._open[old]
                if slot.has_image and seems_complete(slot.image, self._known_grid().encoding):
                    done += self._close(old, flagged=False)
        return done

    def _evicted(self) -> list[Slice]:
        done: list[Slice] = []
        size = next(iter(self._open.values())).image.nbytes if self._open else 0
        most = min(self.max_open, max(1, self.max_open_bytes // max(size, 1)))
        most = max(most, min(self._promised, MOST_SLICE_BYTES // max(size, 1)))
        while len(self._open) > most:
            key = next(iter(self._open))
            if key in self._cut_off:
                raise UnsupportedScanError(
                    f"lines of slice {key[0]} (contrast {key[1]}, phase {key[2]}, repetition "
                    f"{key[3]}, set {key[4]}) still come after it was given out because {most} "
                    f"others of {size / 2**20:.3g} MiB were open; expected at most {most} slices "
                    f"measured at the same time, set {VARIABLE}=open_slices=...,"
                    "open_slices_bytes=... for more"
                )
            if self._open[key].has_image:
                self._cut_off[key] = None
            if len(self._cut_off) > MOST_PROMISED:
                del self._cut_off[next(iter(self._cut_off))]
            log.warning(
                "%d slices are open, at most %d may be: slice %d (contrast %d, phase %d, "
                "repetition %d, set %d) goes out as it is",
                len(self._open),
                most,
                *key,
            )
            done += self._close(key, flagged=False)
        return done

    def _close(self, key: Key, flagged: bool) -> list[Slice]:
        slot = self._open.pop(key)
        self._ending.pop(key, None)
        if slot is self._newest:
            self._newest = None
        self._usual_calibration = slot.calibration.added
        grid, store = self._known_grid(), self._store
        if store is None:
            return []
        if not slot.has_image:
            store.keep(key, slot.calibration)
            self.counts["calibration without image"] += 1
            return []
        if store.peek(key, slot.calibration) is None:
            self._keep_calibration_beside(key, store)
        missing = missing_lines(slot.image, slot.calibration, grid.encoding, flagged)
        slot.image.merge(slot.calibration_only, only_new=True)
        if not store.interleaved:
            return self._slices(slot, missing, store.of_slice(key, slot.calibration))
        calibration = store.interleave(key, slot.image)
        group = store.group(key)
        waiting = self._held.setdefault(group, [])
        waiting.append((slot, missing))
        enough = len(slot.calibration) > 0 or store.is_enough(calibration)
        if enough or len(waiting) >= grid.encoding.acceleration[0]:
            return self._release(group)
        return []

    def _keep_calibration_beside(self, key: Key, store: CalibrationStore) -> None:
        """Calibration lines at the position of a slice, under other counters and still open."""
        for other, slot in self._open.items():
            if other[0] == key[0] and not slot.has_image and len(slot.calibration):
                store.keep(other, slot.calibration)

    def _release(self, group: tuple[int, ...]) -> list[Slice]:
        """Slices that waited for interleaved calibration."""
        waiting = self._held.pop(group, [])
        calibration = self._store.running(group) if self._store else None
        return [s for slot, missing in waiting for s in self._slices(slot, missing, calibration)]

    def _slices(self, slot: _Open, missing: int, calibration: Calibration | None) -> list[Slice]:
        grid = self._known_grid()
        size = grid.encoding.cropped(2)
        kspace = slot.image.partitions(size)
        sampled, filled = slot.image.rows(), slot.image.filled()
        lines = None if calibration is None else self._on_grid(slot, calibration)
        calibrations = None if lines is None else lines.partitions(size)
        calibrated = np.zeros(len(sampled), bool) if lines is None else lines.rows() > 0
        if missing:
            log.warning(
                "slice %d (contrast %d, phase %d, repetition %d, set %d) lacks %d lines",
                *slot.key,
                missing,
            )
        names = ("slice", "contrast", "phase", "repetition", "set")
        counters = dict(zip(names, slot.key, strict=True))
        return [
            Slice(
                kspace=kspace[partition],
                sampled=sampled.copy(),
                calibration=None if calibrations is None else calibrations[partition],
                calibrated=calibrated.copy(),
                calibration_version=0 if calibration is None else calibration.version,
                head=slot.nearest.getHead(),
                counters={**counters, "partition": partition, "average": slot.average},
                encoding=grid.encoding,
                complete=missing == 0,
                missing_lines=missing,
                first_time_stamp=slot.stamps[0],
                last_time_stamp=slot.stamps[1],
                echo_samples=slot.echo,
                received_at=slot.received_at,
                edges=slot.edges,
                serial=slot.serial,
                filled=filled,
            )
            for partition in range(len(kspace))
        ]

    def _on_grid(self, slot: _Open, calibration: Calibration) -> Lines:
        """Calibration lines on the grid: those that the last snapshot had, where none came since.

        Nobody writes into what slices hold.
        """
        lines = calibration.lines
        if not isinstance(lines, SparseLines):  # a running mean changes in place
            return calibration.on_grid(self.coils, self._known_grid().shape)
        known = slot.gridded
        if known is None or known[0] is not lines or known[1] != lines.added:
            made = calibration.on_grid(self.coils, self._known_grid().shape)
            known = slot.gridded = (lines, lines.added, made)
        return known[2]


def _promised(header: ScanHeader) -> int:
    """Slices with counters of their own in one repetition, as far as the header tells."""
    names = ("slice", "contrast", "phase", "set")
    counts = [math.prod(max(e.limit(n).count, 1) for n in names) for e in header.encodings]
    return min(max(counts), MOST_PROMISED)


def _key(acquisition: Any) -> Key:
    idx = acquisition.idx
    return idx.slice, idx.contrast, idx.phase, idx.repetition, idx.set
