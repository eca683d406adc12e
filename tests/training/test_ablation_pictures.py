import shutil

from PIL import Image

from chpnet_training.ablation import DONE
from chpnet_training.ablation_pictures import draw_images
from tests.training.tiny_study import tiny_study


def size_of(path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert len(image.convert("L").getcolors()) > 50
        return image.size


def test_a_slice_by_every_arm(finished_study, tmp_path):
    bank, folder = finished_study
    study = tiny_study(unet=True)
    assert draw_images(study, bank, folder, tmp_path / "all.png")
    assert draw_images(study, bank, folder, tmp_path / "second.png", slice_number=1)
    all_of_them = size_of(tmp_path / "all.png")
    assert size_of(tmp_path / "second.png")[0] == all_of_them[0]
    assert (tmp_path / "all.png").read_bytes() != (tmp_path / "second.png").read_bytes()

    some = tmp_path / "some"
    for name in ("none-seed0", "teacher"):
        shutil.copytree(folder / name, some / name)
    assert draw_images(study, bank, some, tmp_path / "some.png")
    # start, none, teacher, truth against start, unet, none, dynamic, teacher, truth
    assert 6 * size_of(tmp_path / "some.png")[0] == 4 * all_of_them[0]

    (some / "teacher" / DONE).unlink()
    (some / "none-seed0" / DONE).unlink()
    assert not draw_images(study, bank, some, tmp_path / "nothing.png")
