"""Pictures made here, in every format and mode that is read: shown as a person sees them, or refused in one line."""

import io
import re
import struct
import subprocess
import sys
import threading
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from servekit.errors import InvalidRequest, ServingError, TooLarge, UnsupportedPicture
from yolo_transformer.formats import exif_orientation
from yolo_transformer.images import PictureLimits, decode

LIMITS = PictureLimits()
ORIENTATION = 0x0112


def scene(height=48, width=64):
    """Return a smooth picture (H, W, 3) uint8, RGB, whose four corners all differ."""
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 255 - x * 200 // (width - 1)], axis=-1)
    return ramp.astype(np.uint8)


SCENE = scene()
GREY = cv2.cvtColor(SCENE, cv2.COLOR_RGB2GRAY)


def encoded(image, name, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, name, **options)
    return buffer.getvalue()


def shown(data, limits=LIMITS):
    pixels = decode(data, limits)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    return pixels


def off_by(pixels, expected):
    assert pixels.shape[:2] == expected.shape[:2]
    three = expected if expected.ndim == 3 else np.repeat(expected[..., np.newaxis], 3, axis=2)
    return float(np.abs(pixels.astype(int) - three).mean())


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(pixels, depth, colours, *extra, before_end=()):
    """Return a PNG of rows of bytes (H, N); `extra` chunks come before the pixels, `before_end` after them."""
    height = len(pixels)
    width = pixels.shape[1] * 8 // (depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(np.insert(pixels, 0, 0, axis=1).tobytes()))
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *extra, body, *before_end, chunk(b"IEND", b"")])


def tiff(samples, photometric, bits, order="<", **claims):
    """Return an uncompressed TIFF of one strip of grey samples (H, W); `claims` are tags (t256=…) of other values."""
    height, width = samples.shape
    raw = samples.astype(f"{order}u{bits // 8}").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(raw)}
    tags |= {int(tag[1:]): value for tag, value in claims.items()}
    table = struct.pack(f"{order}H", len(tags))
    for tag, value in sorted(tags.items()):
        table += struct.pack(f"{order}HHII", tag, 4, 1, value)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", 8 + len(raw)) + raw + table + bytes(4)


def exif(orientation):
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


def animation(name, **options):
    frames = [Image.fromarray(frame) for frame in (SCENE, 255 - SCENE, SCENE // 2)]
    return encoded(frames[0], name, save_all=True, append_images=frames[1:], duration=100, **options)


EXACT = {
    "png": encoded(SCENE, "PNG"),
    "png of several data chunks": encoded(np.tile(SCENE, (20, 20, 1)), "PNG", compress_level=0),
    "webp, lossless": encoded(SCENE, "WEBP", lossless=True),
    "bmp": encoded(SCENE, "BMP"),
    "bmp with alpha": encoded(Image.fromarray(SCENE).convert("RGBA"), "BMP"),
    "tiff": encoded(SCENE, "TIFF"),
    "tiff, lzw": encoded(SCENE, "TIFF", compression="tiff_lzw"),
    "tiff, deflate": encoded(SCENE, "TIFF", compression="tiff_adobe_deflate"),
    "tiff, packbits": encoded(SCENE, "TIFF", compression="packbits"),
    "tiff, multi-strip": encoded(SCENE, "TIFF", tiffinfo={278: 5}, compression="tiff_lzw"),
    "tiff, big": encoded(SCENE, "TIFF", big_tiff=True),
    "tiff, tiled": encoded(SCENE, "TIFF", tiffinfo={322: 16, 323: 16}, compression="tiff_lzw"),
    "tiff of several pages": animation("TIFF"),
    "ppm": encoded(SCENE, "PPM"),
    "ico": encoded(SCENE, "ICO", sizes=[(64, 48)]),
    "ico of a bitmap": encoded(SCENE, "ICO", sizes=[(64, 48)], bitmap_format="bmp"),
    "webp, animated": animation("WEBP", lossless=True),
    "apng": animation("PNG"),
    "avif, lossless": encoded(SCENE, "AVIF", quality=100, subsampling="4:4:4"),
}
CLOSE = {
    "jpeg": encoded(SCENE, "JPEG", quality=95),
    "jpeg, progressive": encoded(SCENE, "JPEG", quality=95, progressive=True),
    "jpeg, restart markers": encoded(SCENE, "JPEG", quality=95, restart_marker_blocks=2),
    "webp": encoded(SCENE, "WEBP", quality=95),
    "avif": encoded(SCENE, "AVIF", quality=95),
    "gif": encoded(SCENE, "GIF"),
    "gif, animated": animation("GIF"),
    "mpo": animation("MPO", quality=95),
    "tiff, jpeg": encoded(SCENE, "TIFF", compression="jpeg", quality=95),
    "palette png": encoded(Image.fromarray(SCENE).quantize(256), "PNG"),
    "palette bmp": encoded(Image.fromarray(SCENE).quantize(256), "BMP"),
    "palette tiff": encoded(Image.fromarray(SCENE).quantize(256), "TIFF"),
}
FILES = {**EXACT, **CLOSE}


@pytest.mark.parametrize("name", EXACT)
def test_a_lossless_file_shows_its_pixels(name):
    pixels = shown(EXACT[name])
    assert off_by(pixels[:48, :64], SCENE) <= (1 if "avif" in name else 0)


@pytest.mark.parametrize("name", CLOSE)
def test_a_lossy_file_shows_its_picture(name):
    assert off_by(shown(CLOSE[name]), SCENE) < 9


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "JPEG", "WEBP", "GIF", "PPM"])
def test_grey_gets_three_equal_channels(name):
    pixels = shown(encoded(GREY, name))
    assert off_by(pixels, GREY) < 3
    if name != "WEBP":
        assert np.array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_a_pixel_is_black_and_white(name):
    bilevel = GREY > 128
    assert off_by(shown(encoded(Image.fromarray(bilevel), name)), bilevel.astype(np.uint8) * 255) == 0


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_span_black_to_white(depth):
    every = np.arange(256, dtype=np.uint8).reshape(1, -1)
    levels = np.unique(shown(png(every, depth, 0)))
    assert levels.tolist() == [255 * level // (2**depth - 1) for level in range(2**depth)]


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_16_bits_of_grey_are_scaled_to_8(name):
    deep = GREY.astype(np.uint16) * 257
    assert off_by(shown(encoded(Image.fromarray(deep), name)), GREY) == 0


@pytest.mark.parametrize(("colours", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bits_of_colour_or_alpha_are_scaled_to_8(colours, channels):
    layers = [GREY] if channels == 2 else [SCENE]
    opaque = np.full((48, 64, 1), 255, np.uint8)
    deep = np.dstack([*layers, opaque] if channels in {2, 4} else layers).astype(">u2") * 257
    data = png(deep.astype(">u2").reshape(48, -1).view(np.uint8), 16, colours)
    assert off_by(shown(data), layers[0]) == 0


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_of_either_byte_order_is_read(order, bits):
    samples = GREY.astype(np.uint16) * (257 if bits == 16 else 1)
    assert off_by(shown(tiff(samples, 1, bits, order)), GREY) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_zero_is_white_is_no_negative(bits):
    samples = 255 - GREY.astype(np.uint16)
    assert off_by(shown(tiff(samples * (257 if bits == 16 else 1), 0, bits)), GREY) == 0


def test_16_bits_of_pnm_are_scaled_by_their_own_maximum():
    data = b"P5 # a comment\n64 48\n# another\n1000\n" + (GREY.astype(int) * 1000 // 255).astype(">u2").tobytes()
    assert off_by(shown(data), GREY) <= 1


def test_what_is_transparent_shows_white():
    alpha = np.zeros((48, 64, 1), np.uint8)
    alpha[:, 16:32], alpha[:, 32:] = 128, 255
    expected = (SCENE * (alpha / 255) + 255 * (1 - alpha / 255)).round()
    for name, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert off_by(shown(encoded(np.dstack([SCENE, alpha]), name, **options)), expected) < 1
    grey = shown(encoded(np.dstack([GREY, alpha]), "PNG"))
    assert off_by(grey, (GREY * (alpha[..., 0] / 255) + 255 * (1 - alpha[..., 0] / 255)).round()) < 1


def test_a_transparent_entry_of_a_palette_shows_white():
    indices = np.repeat(np.array([[0, 1, 2, 3]], np.uint8), 4, axis=0)
    palette = chunk(b"PLTE", bytes((10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120)))
    pixels = shown(png(indices, 8, 3, palette, chunk(b"tRNS", b"\xff\x00")))
    assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90], [100, 110, 120]]


def test_a_transparent_grey_shows_white_at_8_and_16_bits():
    row = np.array([[0, 9, 9, 255]], np.uint8)
    assert shown(png(row, 8, 0, chunk(b"tRNS", b"\0\x09")))[0, :, 0].tolist() == [0, 255, 255, 255]
    deep = np.array([[0, 0x0909, 0x0908, 0xFFFF]], ">u2").view(np.uint8)
    assert shown(png(deep, 16, 0, chunk(b"tRNS", b"\x09\x09")))[0, :, 0].tolist() == [0, 255, 9, 255]


def test_an_alpha_channel_that_was_never_filled_hides_nothing():
    unfilled = np.dstack([SCENE, np.zeros((48, 64), np.uint8)])
    assert off_by(shown(encoded(unfilled, "PNG")), SCENE) == 0


def test_cmyk_is_shown_in_its_colours_inverted_by_adobe_or_not():
    inks = Image.fromarray(SCENE).convert("CMYK")
    assert off_by(shown(encoded(inks, "JPEG", quality=98)), SCENE) < 4
    assert off_by(shown(encoded(inks, "TIFF")), SCENE) < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_is_turned_as_its_exif_says(name, orientation):
    options = {"lossless": True} if name == "WEBP" else {}
    stored = encoded(SCENE, name, exif=exif(orientation), **options)
    reference = Image.fromarray(SCENE)
    reference.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(reference))
    pixels = shown(stored)
    assert pixels.shape == expected.shape
    assert off_by(pixels, expected) < 4


@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0II*\0"]))
def test_a_broken_exif_block_means_upright_or_a_turn_but_never_an_error(block, head):
    assert 1 <= exif_orientation(head + block) <= 8


def test_a_broken_exif_block_never_fails_a_picture():
    for block in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", exif(6)[:20], exif(99)):
        for name in ("JPEG", "PNG", "WEBP"):
            assert shown(encoded(SCENE, name, exif=block)).shape == SCENE.shape


def test_an_odd_colour_profile_changes_nothing():
    for name in ("JPEG", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if name == "WEBP" else {}
        plain, odd = (encoded(SCENE, name, icc_profile=profile, **options) for profile in (None, b"no profile"))
        assert plain != odd
        assert np.array_equal(shown(plain), shown(odd))


@pytest.mark.parametrize("name", FILES)
def test_bytes_after_the_end_change_nothing(name):
    assert np.array_equal(shown(FILES[name]), shown(FILES[name] + b"\0trailing\xff\xd8\xff" * 9))


def test_an_animated_png_whose_default_image_is_no_frame_shows_that_image():
    rows = SCENE.reshape(48, -1)
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 10, 0, 0))
    other = chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(np.insert(255 - rows, 0, 0, axis=1).tobytes()))
    data = png(rows, 8, 2, chunk(b"acTL", struct.pack(">II", 1, 0)), before_end=(frame, other))
    assert np.array_equal(shown(data), SCENE)


def test_a_frame_beyond_a_gifs_screen_is_shown_whole():
    data = bytearray(encoded(SCENE, "GIF"))
    struct.pack_into("<HH", data, 6, 8, 8)
    assert shown(bytes(data)).shape == SCENE.shape


def test_a_bitmap_of_rows_from_the_top_is_not_upside_down():
    data = bytearray(encoded(SCENE, "BMP"))
    struct.pack_into("<i", data, 22, -48)
    assert np.array_equal(shown(bytes(data)), SCENE[::-1])


def run_length_bmp(runs, width, height):
    palette = b"".join(bytes((i, i, 255 - i, 0)) for i in range(256))
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + info + palette + runs


def test_a_run_length_bitmap_is_read_when_small_and_refused_when_large():
    rows = b"".join(bytes((64, y * 5)) + b"\0\0" for y in range(48)) + b"\0\1"
    column = 5 * np.arange(47, -1, -1)
    pixels = shown(run_length_bmp(rows, 64, 48))
    assert np.array_equal(pixels[:, 7, 1], column)
    assert np.array_equal(pixels[:, 7, 0], 255 - column)
    with pytest.raises(UnsupportedPicture, match="run-length"):
        shown(run_length_bmp(b"\1\7" * 1_000_000 + b"\0\1", 1000, 1000))


def test_a_grey_jpeg_of_an_odd_sampling_is_read():
    data = bytearray(encoded(GREY, "JPEG", quality=95))
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x11
    data[frame + 11] = 0x22
    assert off_by(shown(bytes(data)), GREY) < 3


def test_a_jpeg_whose_colours_are_stored_unsampled_or_sampled_has_opencvs_pixels():
    photo = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (121, 163, 3), np.uint8), (0, 0), 2)
    for sampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        for progressive in (False, True):
            data = encoded(photo, "JPEG", subsampling=sampling, progressive=progressive)
            expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            assert np.array_equal(shown(data), expected)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused_or_shown_whole(name):
    data, whole = FILES[name], shown(FILES[name])
    for size in sorted({*range(1, 64, 7), *(len(data) * part // 40 for part in range(1, 40)), len(data) - 1}):
        try:
            pixels = shown(data[:size])
        except ServingError as error:
            assert error.http_status in {400, 415}  # noqa: PT017 -- either outcome is right
        else:
            assert np.array_equal(pixels, whole), f"{size} of {len(data)} bytes"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_a_photo_cut_short_is_refused_with_an_end_mark_put_on_or_not(progressive, ended):
    photo = np.random.default_rng(2).integers(0, 256, (256, 256, 3), np.uint8)
    data = encoded(photo, "JPEG", progressive=progressive, quality=80)
    first_scan = data.index(b"\xff\xda")
    for size in range(first_scan + 20, len(data) - 20, len(data) // 25):
        with pytest.raises(InvalidRequest, match="cut short"):
            shown(data[:size] + b"\xff\xd9" * ended)


def test_a_progressive_jpeg_cut_between_two_scans_is_refused():
    data = encoded(np.tile(SCENE, (4, 4, 1)), "JPEG", progressive=True)
    position = data.index(b"\xff\xda")
    while (position := data.find(b"\xff\xda", position + 2)) > 0:
        with pytest.raises(InvalidRequest):
            shown(data[:position])


def test_a_jpeg_without_its_end_mark_alone_is_shown_whole():
    data = encoded(SCENE, "JPEG", quality=95)
    assert np.array_equal(shown(data[:-2]), shown(data))
    assert np.array_equal(shown(data[:-1]), shown(data))


def test_stray_bytes_between_a_jpegs_segments_are_tolerated():
    data = encoded(SCENE, "JPEG", quality=95)
    tables = data.index(b"\xff\xdb")
    assert np.array_equal(shown(data[:tables] + b"stray" + data[tables:]), shown(data))
    cut = data[:tables] + b"stray" + data[tables:-60]
    for damaged in (cut, cut + b"\xff\xd9"):
        with pytest.raises(InvalidRequest):
            shown(damaged)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_damage_raises_nothing_but_our_own_errors(data):
    file = bytearray(FILES[data.draw(st.sampled_from(sorted(set(FILES) - {"png of several data chunks"})))])
    where = st.integers(0, len(file) - 1) | st.integers(0, min(200, len(file) - 1))
    for position, value in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), min_size=1, max_size=8)):
        file[position] = value
    try:
        shown(bytes(file), PictureLimits(max_pixels=4_000_000))
    except ServingError as error:
        assert error.http_status in {400, 413, 415}  # noqa: PT017 -- either outcome is right


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", *sorted({data[:12] for data in FILES.values()})]), st.binary(max_size=300))
def test_noise_under_any_magic_number_raises_nothing_but_our_own_errors(magic, noise):
    try:
        shown(magic + noise)
    except ServingError as error:
        assert error.http_status in {400, 413, 415}  # noqa: PT017 -- either outcome is right


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", InvalidRequest),
        (b"text", UnsupportedPicture),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedPicture),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", UnsupportedPicture),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", UnsupportedPicture),
        (b"P2 2 1 255 0 255", UnsupportedPicture),
        (b"\x89PNG\r\n\x1a\n", InvalidRequest),
        (b"GIF89a", InvalidRequest),
        (b"BM", InvalidRequest),
        (b"II*\0", InvalidRequest),
        (b"P5", InvalidRequest),
        (b"RIFF\0\0\0\0WEBP", InvalidRequest),
        (b"\0\0\1\0\1\0", InvalidRequest),
        (b"\0\0\1\0\0\0", InvalidRequest),
    ],
)
def test_what_is_no_picture_or_only_its_first_bytes_is_refused(data, error):
    with pytest.raises(error):
        decode(data, LIMITS)


def test_measurements_as_32_bit_numbers_are_refused():
    for samples in (GREY.astype(np.float32), GREY.astype(np.int32)):
        with pytest.raises(UnsupportedPicture, match="8-bit RGB"):
            shown(encoded(samples, "TIFF"))


@pytest.mark.parametrize("name", EXACT)
def test_each_limit_is_kept_and_told(name):
    data = EXACT[name]
    height, width = shown(data).shape[:2]
    shown(data, PictureLimits(max_bytes=len(data), max_pixels=height * width, max_side=max(height, width)))
    for limits in (
        PictureLimits(max_bytes=len(data) - 1),
        PictureLimits(max_pixels=height * width - 1),
        PictureLimits(max_side=max(height, width) - 1),
    ):
        with pytest.raises(TooLarge, match="allowed"):
            shown(data, limits)


def test_pillows_own_limit_is_off_so_that_it_neither_warns_nor_contradicts():
    assert Image.MAX_IMAGE_PIXELS is None


BOMB = """
import resource, sys
from servekit.errors import TooLarge
from yolo_transformer.images import PictureLimits, decode
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(data, PictureLimits())
except TooLarge:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def big_png(side, rows_a_block=1000):
    block = bytes(rows_a_block * (1 + 3 * side))
    deflate = zlib.compressobj(wbits=-15)
    # What is flushed in full stands for itself, and can be repeated.
    blocks = (deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)) * (side // rows_a_block)
    checksum = 1
    for _ in range(side // rows_a_block):
        checksum = zlib.adler32(block, checksum)
    stream = b"\x78\x01" + blocks + deflate.flush() + struct.pack(">I", checksum)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def test_the_bomb_below_is_a_sound_png():
    assert shown(big_png(1500, 500)).shape == (1500, 1500, 3)


def test_a_bomb_is_refused_at_no_memory():
    data = big_png(15_000)
    assert len(data) < 1_000_000
    done = subprocess.run([sys.executable, "-c", BOMB], input=data, capture_output=True, check=True)
    assert int(done.stdout) < 20 * 1024


BIG_HEADERS = {
    "gif": CLOSE["gif"][:6] + b"\xff\xff\xff\xff" + CLOSE["gif"][10:],
    "pnm": b"P6 60000 60000 255\n",
    "tiff": tiff(GREY, 1, 8, t256=1 << 31),
    "tiff of huge tiles": tiff(GREY, 1, 8, t322=1 << 30, t323=1 << 30),
    "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6,
    "bmp": EXACT["bmp"][:18] + struct.pack("<ii", 1 << 30, -(1 << 30)) + EXACT["bmp"][26:],
    "avif": re.sub(rb"(ispe\0{4})[\s\S]{8}", rb"\1" + b"\0\0\x7f\xff" * 2, EXACT["avif, lossless"]),
}


@pytest.mark.parametrize("name", BIG_HEADERS)
def test_a_header_of_too_many_pixels_is_refused_in_every_format(name):
    with pytest.raises(TooLarge):
        decode(BIG_HEADERS[name], LIMITS)


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = encoded(SCENE, "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidRequest, match="scans"):
        decode(data[:scan] + data[scan:-2] * 2000 + b"\xff\xd9", LIMITS)


def test_blocks_made_to_keep_a_reader_busy_are_refused():
    screen = b"GIF89a" + struct.pack("<HHBBB", 64, 48, 0, 0, 0)
    comments = screen + b"!\xfe" + b"\1x" * 5_000_000 + b"\0"
    chunks = EXACT["png"][:33] + chunk(b"teSt", b"") * 200_000 + EXACT["png"][33:]
    for data in (comments, chunks):
        with pytest.raises(InvalidRequest, match="more than"):
            decode(data, LIMITS)


def test_a_tiff_whose_tags_claim_more_than_the_file_is_refused():
    with pytest.raises(InvalidRequest, match="beyond its end"):
        decode(tiff(GREY, 1, 8, t279=1 << 30), LIMITS)
    data = tiff(GREY, 1, 8)
    strips = data.index(struct.pack("<HHI", 273, 4, 1), len(data) - 130)
    for claimed in (1000, 60_000, 1 << 31):
        with pytest.raises(InvalidRequest):
            decode(data[: strips + 4] + struct.pack("<I", claimed) + data[strips + 8 :], LIMITS)


def test_pictures_decoded_in_many_threads_at_once_are_right():
    expected = {name: shown(data) for name, data in FILES.items()}
    wrong = []

    def work():
        wrong.extend(name for name, data in FILES.items() if not np.array_equal(shown(data), expected[name]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
