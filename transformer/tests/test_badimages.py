"""Every file of the folder of damaged, hostile and odd pictures gets the verdict that a person looking at it gave."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from servekit.errors import ServingError
from yolo_transformer.images import PictureLimits, decode

ASSETS = Path(os.environ.get("YOLO_ASSETS", Path(__file__).resolve().parents[2] / "../shared/assets"))
BAD = ASSETS / "badimages"
IMAGES = ASSETS / "images"
VARIANTS = IMAGES / "variants"
VERDICTS = json.loads(Path(__file__).with_name("badimages_verdicts.json").read_text(encoding="utf-8"))
SERVED = sorted(name for name, verdict in VERDICTS.items() if "served" in verdict)
REFUSED = sorted(name for name, verdict in VERDICTS.items() if "refused" in verdict)
OF_ONE_COLOUR = {
    "one_pixel.png",
    "strip_2x6000.png",
    "strip_5000x3.png",
    "pillow_duplicate_frame.gif",
    "pillow_truncated_exif_dpi.jpg",
}
HOPPERS = sorted(name for name in SERVED if name.startswith("pillow_hopper") and "gray" not in name)
# Dark by their own values, in every viewer: see their verdicts.
NEARLY_BLACK = {"pillow_16bit.cropped.tif", "pillow_i_trns.png"}

pytestmark = pytest.mark.skipif(
    not BAD.is_dir(), reason=f"the asset folder is not at {ASSETS}: set YOLO_ASSETS to where it is"
)


def picture(path):
    return decode(path.read_bytes(), PictureLimits())


def difference(one, other, height=270, width=None):
    size = (width or round(height * one.shape[1] / one.shape[0]), height)
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(float) for image in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())


def test_every_file_of_the_folder_has_a_verdict_and_every_verdict_a_file():
    assert {path.name for path in BAD.iterdir()} == set(VERDICTS)


def test_every_verdict_is_served_with_a_size_or_refused_with_a_status_and_a_reason():
    for verdict in VERDICTS.values():
        if "served" in verdict:
            assert len(verdict["served"]) == 2
        else:
            assert verdict["refused"] in {400, 413, 415}
            assert verdict["why"]


@pytest.mark.parametrize("name", SERVED)
def test_what_a_person_sees_as_a_picture_is_served(name):
    pixels = picture(BAD / name)
    assert list(pixels.shape) == [*VERDICTS[name]["served"], 3]
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert (pixels.std() > 0) == (name not in OF_ONE_COLOUR)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_or_a_damaged_one_is_refused_with_a_line_for_people(name):
    with pytest.raises(ServingError) as caught:
        picture(BAD / name)
    assert caught.value.http_status == VERDICTS[name]["refused"]
    assert 20 < len(caught.value.message) < 200
    for leak in ("Traceback", "/", "Error", "PIL", "cv2", "simplejpeg", " at 0x"):
        assert leak not in caught.value.message


@pytest.mark.parametrize("name", HOPPERS)
def test_the_same_portrait_in_every_odd_file_looks_the_same(name):
    assert difference(picture(BAD / "pillow_hopper.png"), picture(BAD / name), height=64) < 9


def test_a_16_bit_picture_keeps_its_range():
    for name in ("ljt_monkey16.png", "pillow_16_bit_binary.pgm"):
        pixels = picture(BAD / name)
        assert 60 < pixels.mean() < 190
        assert np.ptp(pixels) > 150
    for name in NEARLY_BLACK:
        pixels = picture(BAD / name)
        assert np.median(pixels) <= 2


def test_a_colour_of_16_bits_is_scaled_to_8():
    deep = cv2.imread(str(BAD / "ljt_monkey16.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert deep.dtype == np.uint16
    assert np.abs(picture(BAD / "ljt_monkey16.png") - deep / 257).max() <= 1


@pytest.mark.parametrize("name", ["pillow_pil123rgba.png", "pillow_transparent.webp", "pillow_l_trns.png"])
def test_transparent_parts_show_white_as_on_a_page(name):
    assert (picture(BAD / name) == 255).all(axis=2).mean() > 0.05


def test_an_adobe_cmyk_picture_has_its_own_colours_not_their_negative():
    pixels = picture(BAD / "pillow_pil_sample_cmyk.jpg")
    red = pixels[pixels[..., 0] > 150]
    assert pixels.mean() < 60
    assert len(red) > 300
    assert red[:, 1:].mean() < 90


def test_the_first_of_a_cameras_two_views_is_served():
    for name in ("pillow_frozenpond.mpo", "pillow_sugarshack.mpo"):
        expected = cv2.imdecode(np.fromfile(BAD / name, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(picture(BAD / name), expected)


@pytest.mark.parametrize("name", ["bus.jpg", "zidane.jpg", "variants/bus_cmyk.jpg", "variants/bus_progressive.jpg"])
def test_a_jpegs_pixels_are_those_the_reference_detections_were_made_from(name):
    assert np.array_equal(picture(IMAGES / name), cv2.imread(str(IMAGES / name), cv2.IMREAD_COLOR_RGB))


def test_the_jpegs_of_the_reference_set_have_the_pixels_of_opencv():
    paths = sorted((ASSETS / "coco/images").iterdir())[::8]
    assert paths
    for path in paths:
        assert np.array_equal(picture(path), cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)), path.name


@pytest.mark.parametrize(
    "name", sorted(path.name for path in VARIANTS.glob("bus*")) if VARIANTS.is_dir() else ["bus.webp"]
)
def test_every_variant_of_the_bus_gives_the_buss_picture(name):
    bus, variant = picture(IMAGES / "bus.jpg"), picture(VARIANTS / name)
    assert variant.shape[0] * bus.shape[1] == variant.shape[1] * bus.shape[0]
    if "gray" in name or "la" in name.split(".", maxsplit=1)[0].split("_"):
        bus = cv2.cvtColor(cv2.cvtColor(bus, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    # A corner of 60 x 60 pixels is transparent in one of them, and shows white.
    assert difference(bus, variant) < (5 if "rgba" in name else 4)


def test_a_landscape_stored_on_its_side_equals_the_one_stored_upright():
    upright, turned = (picture(IMAGES / f"exif_landscape_{number}.jpg") for number in (1, 6))
    assert upright.shape == turned.shape
    assert upright.shape[1] > upright.shape[0]
    assert difference(upright, turned) < 3


@pytest.mark.parametrize("name", ["zidane_bus_anim.gif", "zidane_bus_anim.webp"])
def test_an_animation_shows_its_first_frame(name):
    zidane = picture(IMAGES / "zidane.jpg")
    assert difference(zidane, picture(VARIANTS / name)) < 5
