import numpy as np
import pytest

from chpnet_training import cleaning


def head(size=200, radius=0.35, air=0.01, seed=0):
    """A bright ring around a textured inside, in nearly dark air."""
    generator = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] - size / 2) / size
    distance = np.hypot(y / 1.2, x)
    image = np.abs(air * generator.normal(size=(size, size)))
    inside = distance < radius
    waves = np.sin(40 * y + seed) * np.cos(37 * x - seed)
    image[inside] = (0.5 + 0.2 * waves)[inside]
    rim = inside & (distance > 0.9 * radius)
    image[rim] = 0.9 + 0.05 * waves[rim]
    return image.astype(np.float32)


def test_good_head_is_kept():
    assert cleaning.reject_reason(head()) is None


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (head(150), "shorter side below 160 pixels"),
        (0.05 * head(), "too dark"),
        (np.maximum(head(), 0.3), "background not dark"),
        (np.maximum(head(), 0.08), "background not dark"),
        (head(radius=0.8)[20:-20, 20:-20], "background not dark"),
        (head(300, radius=0.44)[65:-65], "head touches the border"),
        (head(radius=0.1), "no large object"),
        (np.clip(head(), 0, 0.6), "hard windowing or CT"),
    ],
)
def test_bad_images_are_named(image, reason):
    assert cleaning.reject_reason(image) == reason


def test_annotations_are_found():
    image = head()
    image[5:13, 5:9] = image[5:13, 12:16] = 0.9
    assert cleaning.reject_reason(image) == "annotated"


def test_floor_darkens_air_and_keeps_the_head():
    image = head(air=0.02)
    inside = cleaning.head_mask(image)
    dark = cleaning.darken_background(image)
    air = ~inside
    assert dark[air].mean() < 0.25 * image[air].mean()
    np.testing.assert_allclose(dark[inside], image[inside], atol=0.005)


def test_floor_leaves_an_image_without_air_alone():
    image = np.ones((64, 64), dtype=np.float32)
    np.testing.assert_array_equal(cleaning.darken_background(image), image)


def test_crop_finds_the_head_wherever_it_is():
    image = np.zeros((200, 240), dtype=np.float32)
    image[50:150, 20:100] = 1
    cropped = cleaning.crop_to_head(image, margin=0.1)
    assert cropped.shape == (100 + 20, 80 + 16)
    assert cleaning.crop_to_head(np.zeros((20, 20))).shape == (20, 20)


def test_frame_is_trimmed():
    image = np.zeros((100, 300), dtype=np.float32)
    image[0] = image[-1] = image[:, 0] = image[:, -1] = 1
    trimmed = cleaning.trim_frame(image)
    assert trimmed.shape == (96, 296)
    assert not trimmed.any()


def test_size_is_reduced_but_never_enlarged():
    image = head(400)
    assert cleaning.limit_size(image[:, :300], 200).shape == (200, 150)
    assert cleaning.limit_size(image, 500) is image
    assert cleaning.limit_size(image, 200).mean() == pytest.approx(image.mean(), rel=0.02)


def test_hash_ignores_size_and_brightness_but_not_content():
    def distance(one, two):
        codes = [cleaning.perceptual_hash(image) for image in (one, two)]
        return float(cleaning.hash_distances(codes[0], codes[1][np.newaxis])[0])

    image = cleaning.darken_background(head())
    assert distance(image, image) == 0
    assert distance(image, cleaning.limit_size(0.7 * image, 180)) <= 16
    assert distance(image, cleaning.darken_background(head(seed=2))) > 44
