"""A file of acquisitions in, a file of images out."""

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import (
    ChpnetError,
    MissingCalibrationError,
    ModelError,
    OutputError,
    OutputExistsError,
)
from chpnet_stream.mrd import flags
from chpnet_stream.offline import OfflineJob, OfflineReport, run_offline
from chpnet_stream.options import ReconstructionOptions
from tests.helpers import no_file_larger_than
from tests.network.models import tiny_config, untrained, write_model
from tests.sessions import run, simulated


def offline(source: Path, out: Path, progress=None, **settings) -> OfflineReport:
    names = {"method", "model", "engine", "series", "flip_rows", "flip_columns", "virtual_coils"}
    names |= {"scale", "image_type"}
    options = {name: settings.pop(name) for name in names & set(settings)}
    options.setdefault("method", "cg-sense")
    job = OfflineJob(source, out, options=ReconstructionOptions(**options), **settings)
    return run_offline(job, progress)


def read(path: Path, series: int = 1, group: str = "dataset") -> list[ismrmrd.Image]:
    with ismrmrd.Dataset(str(path), group, mode="r") as dataset:
        name = f"image_{series}"
        return [dataset.read_image(name, n) for n in range(dataset.number_of_images(name))]


def only(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_images_are_those_of_the_session(small_scan: Path, tmp_path: Path) -> None:
    seen = []
    report = offline(small_scan, tmp_path / "out.h5", lambda *counts: seen.append(counts))
    _, expected = run(small_scan)
    images = read(tmp_path / "out.h5")
    assert len(images) == len(expected) == report.images == 2
    for number, (image, wanted) in enumerate(zip(images, expected, strict=True), 1):
        assert image.data.dtype == np.float32
        np.testing.assert_array_equal(image.data[0, 0], wanted.result.image)
        assert image.image_index == number
        assert bool(image.flags & flags.LAST_IN_MEASUREMENT) == (number == 2)
        assert tuple(image.field_of_view) == (240.0, 240.0, 4.0)
        assert image.meta["ChpnetMethod"] == "cg-sense"
    assert seen == [(1, 2), (2, 2)]
    assert only(tmp_path) == ["out.h5"]
    with h5py.File(small_scan) as scan, h5py.File(tmp_path / "out.h5") as out:
        assert out["dataset/xml"][0] == scan["dataset/xml"][0]
    assert report.matrix == (64, 64)
    assert report.coils == 4
    assert report.acceleration == pytest.approx(62 / 40, abs=0.05)


def test_two_runs_give_the_same_bytes(small_scan: Path, tmp_path: Path) -> None:
    card = write_model(tmp_path, untrained(tiny_config(), 0.0))
    for name in ("a.h5", "b.h5"):
        offline(small_scan, tmp_path / name, method="chpnet", model=str(card), engine="pytorch")
    one, other = read(tmp_path / "a.h5"), read(tmp_path / "b.h5")
    assert [i.meta["ChpnetMethod"] for i in one] == ["chpnet", "chpnet"]
    for a, b in zip(one, other, strict=True):
        assert a.data.tobytes() == b.data.tobytes()


def test_uint16_is_within_one_step(tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=3, repetitions=2)
    offline(path, tmp_path / "float.h5")
    offline(path, tmp_path / "whole.h5", dtype="uint16")
    exact, whole = read(tmp_path / "float.h5"), read(tmp_path / "whole.h5")
    assert len(exact) == len(whole) == 6
    assert len({i.meta["RescaleSlope"] for i in whole}) == 1
    for a, b in zip(exact, whole, strict=True):
        assert b.data.dtype == np.uint16
        slope, intercept = float(b.meta["RescaleSlope"]), float(b.meta["RescaleIntercept"])
        assert np.abs(slope * b.data + intercept - a.data).max() <= 0.501 * slope


def test_uint16_tells_gadgetrons_window_in_stored_values(small_scan: Path, tmp_path: Path) -> None:
    offline(small_scan, tmp_path / "out.h5", dtype="uint16", scale=16)
    for image in read(tmp_path / "out.h5"):
        meta, slope = image.meta, float(image.meta["RescaleSlope"])
        assert float(meta["GADGETRON_ScaleRatio"]) == pytest.approx(1 / slope)
        for name in ("WindowCenter", "WindowWidth"):
            stored = float(meta[f"GADGETRON_{name}"])
            assert stored * slope == pytest.approx(float(meta[name]), abs=slope)


def test_one_window_for_the_series(tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=3, contrasts=2, repetitions=2)
    offline(path, tmp_path / "out.h5")
    images = read(tmp_path / "out.h5")
    assert len(images) == 12
    windows = {(i.meta["WindowCenter"], i.meta["WindowWidth"]) for i in images}
    assert len(windows) == 1
    first = [i for i in images if i.repetition == 0]
    width = int(windows.pop()[1])
    brightest = max(np.percentile(i.data, 99.8) for i in first if i.contrast == 0)
    assert width == pytest.approx(brightest, abs=1)
    assert {(i.slice, i.contrast, i.repetition) for i in images} == {
        (s, c, r) for s in range(3) for c in range(2) for r in range(2)
    }


def test_waveforms_of_the_scan_are_kept(tmp_path: Path) -> None:
    path = simulated(tmp_path, waveforms=True)
    offline(path, tmp_path / "out.h5")
    with (
        ismrmrd.Dataset(str(path), mode="r") as scan,
        ismrmrd.Dataset(str(tmp_path / "out.h5"), mode="r") as out,
    ):
        count = scan.number_of_waveforms()
        assert out.number_of_waveforms() == count > 0
        for n in range(count):
            there, here = scan.read_waveform(n), out.read_waveform(n)
            assert bytes(here.getHead()) == bytes(there.getHead())
            np.testing.assert_array_equal(here.data, there.data)


def test_a_scan_without_waveforms_gets_none(small_scan: Path, tmp_path: Path) -> None:
    offline(small_scan, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as out:
        assert sorted(out["dataset"]) == ["image_1", "xml"]


def test_groups_and_series(small_scan: Path, tmp_path: Path) -> None:
    with h5py.File(small_scan) as scan, h5py.File(tmp_path / "in.h5", "w") as copy:
        scan.copy("dataset", copy, "other")
    offline(tmp_path / "in.h5", tmp_path / "out.h5", group="other", series=3)
    assert len(read(tmp_path / "out.h5", 3, "other")) == 2


def test_pngs_have_one_window_and_the_flips(small_scan: Path, tmp_path: Path) -> None:
    from PIL import Image

    offline(small_scan, tmp_path / "out.h5", png=tmp_path / "png", flip_rows=True)
    names = ["image_00001_slice_000.png", "image_00002_slice_001.png"]
    assert only(tmp_path / "png") == names
    images = read(tmp_path / "out.h5")
    top = max(np.percentile(i.data, 99.8) for i in images)
    for name, image in zip(names, images, strict=True):
        grey = np.asarray(Image.open(tmp_path / "png" / name).convert("L"), dtype=float)
        expected = np.clip(image.data[0, 0] / top, 0, 1) * 255
        np.testing.assert_allclose(grey, expected, atol=2)


@pytest.mark.parametrize("changes", [{"scale": 100}, {"image_type": "complex"}])
def test_pngs_look_the_same_whatever_the_pixels_are(
    changes: dict[str, object], small_scan: Path, tmp_path: Path
) -> None:
    from PIL import Image

    def picture(name: str, **settings: object) -> np.ndarray:
        offline(small_scan, tmp_path / f"{name}.h5", png=tmp_path / name, **settings)
        path = tmp_path / name / "image_00002_slice_001.png"
        return np.asarray(Image.open(path).convert("L"), dtype=int)

    plain, other = picture("plain"), picture("other", **changes)
    assert 10 < plain.mean() < 200
    assert np.abs(other - plain).max() <= 1


def test_an_output_is_not_replaced_unasked(small_scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    out.write_text("precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        offline(small_scan, out)
    assert out.read_text() == "precious"
    offline(small_scan, out, overwrite=True)
    assert len(read(out)) == 2


def test_the_scan_is_never_replaced(small_scan: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.h5"
    link.symlink_to(small_scan)
    for out in (small_scan, link):
        with pytest.raises(OutputError, match="is the scan itself"):
            offline(small_scan, out, overwrite=True)


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Three slices, of which the second one to be measured can't be read."""
    (tmp_path / "scan").mkdir()
    path = simulated(tmp_path / "scan", slices=3)
    with h5py.File(path, "a") as file:
        row = file["dataset/data"][-50]
        row["data"] = np.full_like(row["data"], np.nan)
        file["dataset/data"][-50] = row
    return path


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("existing", [False, True])
def test_after_an_error_what_was_made_is_kept_under_another_name(
    dtype: str, existing: bool, spoilt: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "out.h5"
    if existing:
        out.write_text("precious")
    with pytest.raises(ChpnetError, match="NaN or infinite samples"):
        offline(spoilt, out, dtype=dtype, overwrite=True)
    kept = out.with_name("out_incomplete.h5")
    assert only(tmp_path / "out") == (["out.h5"] if existing else []) + ["out_incomplete.h5"]
    if existing:
        assert out.read_text() == "precious"
    (image,) = read(kept)
    assert image.data.dtype == np.dtype(dtype)
    assert image.slice == 0
    assert image.data.any()
    told = f"the images that were made before the scan failed (1) are in {kept}"
    assert told in caplog.messages


def test_an_error_that_nobody_foresaw_costs_no_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory that is short after hours, for example."""

    def fail(done: int, total: int) -> None:
        if done == 3:
            raise MemoryError("no memory")

    path = simulated(tmp_path, slices=4)
    with pytest.raises(MemoryError):
        offline(path, tmp_path / "out.h5", fail)
    assert only(tmp_path) == ["out_incomplete.h5", "scan.h5"]
    assert len(read(tmp_path / "out_incomplete.h5")) == 3
    assert "the images that were made before the scan failed (3) are in" in caplog.text


def test_an_interrupt_and_a_full_disk_leave_nothing(small_scan: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        offline(small_scan, tmp_path / "out.h5", interrupt)
    assert only(tmp_path) == []
    with no_file_larger_than(5000), pytest.raises(OutputError, match="can't write"):
        offline(small_scan, tmp_path / "out.h5")
    assert only(tmp_path) == []


def test_a_picture_that_cannot_be_made_is_told_before_the_work(
    small_scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"no folder .*file to write c\.png to"):
        offline(small_scan, tmp_path / "out.h5", comparison=tmp_path / "file" / "c.png")
    with pytest.raises(OutputError, match="can't make the folder"):
        offline(small_scan, tmp_path / "out.h5", png=tmp_path / "file")
    with pytest.raises(ModelError):
        offline(small_scan, tmp_path / "out.h5", method="chpnet", model="no-such-model")
    assert only(tmp_path) == ["file"]


def test_pictures_that_can_not_be_written_cost_no_images(small_scan: Path, tmp_path: Path) -> None:
    png = tmp_path / "png"

    def take_away(done: int, total: int) -> None:
        if png.is_dir():
            png.rmdir()
            png.write_text("")

    with pytest.raises(OutputError, match=r"can't write .*image_00001_slice_000\.png"):
        offline(small_scan, tmp_path / "out.h5", take_away, png=png)
    assert len(read(tmp_path / "out.h5")) == 2


def test_pictures_are_not_replaced_unasked_and_not_mixed(small_scan: Path, tmp_path: Path) -> None:
    png = tmp_path / "png"
    png.mkdir()
    (png / "notes.png").write_text("mine")
    old = png / "image_00007_slice_003.png"
    old.write_text("of another scan")
    with pytest.raises(OutputExistsError, match=r"image_00007_slice_003\.png exists .*--overwrite"):
        offline(small_scan, tmp_path / "out.h5", png=png)
    assert old.read_text() == "of another scan"
    assert not (tmp_path / "out.h5").exists()
    offline(small_scan, tmp_path / "out.h5", png=png, overwrite=True)
    assert only(png) == ["image_00001_slice_000.png", "image_00002_slice_001.png", "notes.png"]
    compared = {"png": tmp_path / "new", "comparison": tmp_path / "new" / "c.png"}
    (tmp_path / "new").mkdir()
    for comparison in (compared["comparison"], tmp_path / "beside.png"):
        comparison.write_text("precious")
        with pytest.raises(OutputExistsError, match=f"{comparison.name} exists already"):
            offline(small_scan, tmp_path / "more.h5", **compared | {"comparison": comparison})
        assert comparison.read_text() == "precious"


def test_images_of_data_that_contradict_themselves_are_counted(
    small_scan: Path, tmp_path: Path
) -> None:
    path = tmp_path / "in.h5"
    path.write_bytes(small_scan.read_bytes())
    with h5py.File(path, "a") as file:  # one line of the first slice is another one
        row = file["dataset/data"][12]
        row["data"] = file["dataset/data"][11]["data"]
        file["dataset/data"][12] = row
    report = offline(path, tmp_path / "out.h5")
    marked = ["ChpnetDataMark" in image.meta for image in read(tmp_path / "out.h5")]
    assert marked[0]
    assert report.session.metrics.marked == sum(marked)
    assert report.session.metrics.counted()["marked"] == sum(marked)


def test_comparison_with_the_truth_of_a_simulation(tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=3, contrasts=2)
    card = write_model(tmp_path, untrained(tiny_config(), 0.0))
    picture = tmp_path / "c.png"
    report = offline(
        path,
        tmp_path / "out.h5",
        comparison=picture,
        method="chpnet",
        model=str(card),
        engine="pytorch",
    )
    assert report.reference == "truth stored in the file"
    scores = {s.method: s for s in report.scores}
    assert list(scores) == ["zero-filled", "cg-sense", "chpnet"]
    assert scores["cg-sense"].psnr > 35 > 30 > scores["zero-filled"].psnr
    assert scores["chpnet"].psnr > 35
    assert all(s.milliseconds > 0 and s.fallback is None for s in report.scores)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_fully_sampled_scan_is_undersampled_for_the_comparison(tmp_path: Path) -> None:
    path = simulated(tmp_path, acceleration=1, slices=1)
    report = offline(path, tmp_path / "out.h5", comparison=tmp_path / "c.png", method="rss")
    assert report.reference == "SENSE combination of all lines"
    assert report.acceleration == 1
    scores = {s.method: s.psnr for s in report.scores}
    assert list(scores) == ["zero-filled", "cg-sense"]
    assert scores["cg-sense"] > scores["zero-filled"] + 3
    report = offline(
        path, tmp_path / "two.h5", comparison=tmp_path / "two.png", acceleration=2, method="rss"
    )
    assert report.acceleration > 1.3
    assert {s.method: s.psnr for s in report.scores}["cg-sense"] > scores["cg-sense"]


def test_a_comparison_of_complex_images_is_that_of_their_magnitudes(tmp_path: Path) -> None:
    path = simulated(tmp_path, acceleration=1, slices=1)
    scores = []
    for kind in ("magnitude", "complex"):
        picture = tmp_path / f"{kind}.png"
        out = tmp_path / f"{kind}.h5"
        report = offline(path, out, comparison=picture, image_type=kind)
        scores.append([s.psnr for s in report.scores])
    assert scores[1] == pytest.approx(scores[0])


def test_a_comparison_without_a_reference_has_no_scores(small_scan: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    path.write_bytes(small_scan.read_bytes())
    with h5py.File(path, "a") as file:
        del file["dataset/truth"]
    report = offline(path, tmp_path / "out.h5", comparison=tmp_path / "c.png")
    assert report.reference is None
    assert [(s.psnr, s.ssim) for s in report.scores] == [(None, None), (None, None)]
    assert (tmp_path / "c.png").exists()


def test_a_comparison_needs_coil_maps(small_scan: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    path.write_bytes(small_scan.read_bytes())
    with h5py.File(path, "a") as file:
        data = file["dataset/data"][:]
        masks = data["head"]["flags"]
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=data[(masks & flags.CALIBRATION) == 0])
    with pytest.raises(MissingCalibrationError, match="no comparison without coil maps"):
        offline(path, tmp_path / "out.h5", comparison=tmp_path / "c.png", method="rss")
    assert only(tmp_path) == ["in.h5", "out.h5"]  # the images are no worse without it
    assert len(read(tmp_path / "out.h5")) == 2
