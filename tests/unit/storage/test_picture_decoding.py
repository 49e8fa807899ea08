"""Whatever file a client sends, it is a clean picture or a sentence about what is wrong with it."""

from __future__ import annotations

import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.storage.picture import (
    AnimatedPictureError,
    DamagedPictureError,
    PictureError,
    PictureTooLargeError,
    WrongFormatError,
    decode_picture,
)
from tests.support.hostile_files import file_of, png

MOST = 10_000
NOISE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
RAMP = PIL.Image.fromarray(np.linspace(0, 255, 600).reshape(20, 30).astype(np.uint8)).convert("RGB")
TURNED = NOISE.transpose(PIL.Image.Transpose.ROTATE_180)


PNG, JPEG, WEBP = (file_of(NOISE, kind) for kind in ("PNG", "JPEG", "WEBP"))
ANIMATION = {"save_all": True, "append_images": [TURNED]}


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (PNG, "RGB"),
        (JPEG, "RGB"),
        (WEBP, "RGB"),
        (file_of(NOISE.convert("P"), "PNG"), "RGB"),
        (file_of(NOISE.convert("1"), "PNG"), "L"),
        (file_of(NOISE.convert("L"), "JPEG"), "L"),
        (file_of(NOISE.convert("CMYK"), "JPEG"), "RGB"),
        (file_of(NOISE.convert("LA"), "PNG"), "RGBA"),
        (file_of(NOISE.convert("RGBA"), "WEBP", lossless=True), "RGB"),
        (file_of(NOISE.convert("P"), "PNG", transparency=0), "RGBA"),
    ],
)
def test_pictures_of_every_kind_are_taken(content, mode):
    picture = decode_picture(content, MOST)
    if mode == "RGB" and picture.mode == "RGBA":  # whether an opaque WebP has an alpha channel is up to its writer
        assert np.asarray(picture)[..., 3].min() == 255
    else:
        assert picture.mode == mode
    assert picture.size == NOISE.size


def test_sixteen_bits_become_eight_and_not_white():
    depth = PIL.Image.fromarray(np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16))
    found = np.asarray(decode_picture(file_of(depth, "PNG"), MOST))
    assert (found.min(), found.max()) == (0, 255)
    assert abs(float(found.mean()) - 127.5) < 2


def test_it_stands_upright_and_tells_nothing_of_its_maker():
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "the maker of a camera"
    content = file_of(RAMP, "JPEG", exif=exif, comment=b"at home", icc_profile=b"profile", quality=95)
    picture = decode_picture(content, MOST)
    kept = file_of(picture, "PNG")

    assert picture.size == (20, 30)
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(RAMP.rotate(-90, expand=True))).mean() < 5
    assert not any(word in kept for word in (b"maker", b"home", b"profile", b"eXIf", b"iCCP"))
    assert dict(picture.getexif()) == {}


def test_the_first_picture_of_a_phones_file_is_taken():
    picture = decode_picture(file_of(RAMP, "MPO", **ANIMATION), MOST)
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(RAMP)).mean() < 5


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        (b"", WrongFormatError, "PNG, JPEG or WebP"),
        (b"GIF89a" + bytes(100), WrongFormatError, "PNG, JPEG or WebP"),
        (file_of(NOISE, "GIF"), WrongFormatError, "PNG, JPEG or WebP"),
        (file_of(NOISE, "TIFF"), WrongFormatError, "PNG, JPEG or WebP"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', WrongFormatError, "PNG, JPEG or WebP"),
        (file_of(NOISE, "PNG", **ANIMATION), AnimatedPictureError, "animation"),
        (file_of(NOISE, "WEBP", **ANIMATION), AnimatedPictureError, "animation"),
        (PNG[:400], DamagedPictureError, "damaged or incomplete"),
        (JPEG[:400], DamagedPictureError, "damaged or incomplete"),
        (WEBP[:400], DamagedPictureError, "damaged or incomplete"),
        (PNG[:100] + bytes(200) + PNG[300:], DamagedPictureError, "damaged or incomplete"),
        (png(30, 20, (b"IDAT", b"not compressed")), DamagedPictureError, "damaged or incomplete"),
        (png(101, 100), PictureTooLargeError, "101x100, 10100 pixels; at most 10000"),
        (png(10_000, 9_500), PictureTooLargeError, "95000000 pixels; at most 10000"),
        (png(60_000, 60_000), PictureTooLargeError, "at most 10000"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_whatever_else_is_refused_in_a_sentence(content, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        decode_picture(content, MOST)
    assert 400 <= caught.value.status < 500
    assert "\n" not in str(caught.value)


def test_text_that_unpacks_to_gigabytes_is_not_unpacked():
    bomb = b"Comment\0\0" + zlib.compress(bytes(50_000_000))
    with pytest.raises(PictureError):
        decode_picture(png(30, 20, (b"zTXt", bomb), (b"IDAT", zlib.compress(bytes(1820)))), MOST)


@given(st.sampled_from([PNG, JPEG, WEBP]), st.data())
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore")
def test_no_damage_gets_past(content, data):
    broken = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    try:
        picture = decode_picture(bytes(broken[:cut]) if data.draw(st.booleans()) else bytes(broken), MOST)
    except PictureError:
        return
    assert picture.width * picture.height <= MOST
    assert picture.mode in ("L", "RGB", "RGBA")
