"""Images in each format: their pixels, what they carry, and who can read it."""

import io
import json
import struct
from typing import Any

import numpy as np
import piexif
import piexif.helper
import PIL.Image
import pytest
from sd_parsers import ParserManager

from deployments.storage.formats import FORMATS, available_formats, media_type_of
from deployments.storage.metadata import png
from deployments.storage.metadata.image_file import encode_image, read_metadata, read_parameters
from deployments.storage.metadata.infotext import parameters_text

METADATA: dict[str, Any] = {
    "model_id": "shapes",
    "prompt": 'línea & "quoted" <b>\n三行目 🟥 \x01',
    "negative_prompt": "größe",
    "sampler": "DDIM",
    "version": "CyberImage 0.1.0",
    "settings": {"num_inference_steps": 20, "guidance_scale": 3.0, "seed": 2**62, "width": 48, "height": 32},
}
PICTURE = PIL.Image.linear_gradient("L").resize((48, 32)).convert("RGB")
SIGNATURES = {"png": b"\x89PNG", "webp": b"RIFF", "jpeg": b"\xff\xd8", "avif": b"\0\0\0"}

EVERY_FORMAT = pytest.mark.parametrize("name", available_formats())
LOSSY = pytest.mark.parametrize("name", [name for name in available_formats() if FORMATS[name].quality])


def opened(content: bytes) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(content))
    image.load()
    return image


def noise(side: int = 256) -> PIL.Image.Image:
    values = np.random.default_rng(7).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(values).resize((side, side), PIL.Image.Resampling.BICUBIC)


def chunks_of(content: bytes) -> list[bytes]:
    names, place = [], 8
    while place < len(content):
        length, name = struct.unpack(">I4s", content[place : place + 8])
        names.append(name)
        place += 12 + length
    return names


@EVERY_FORMAT
class TestEveryFormat:
    def test_pillow_opens_it(self, name: str) -> None:
        content = encode_image(PICTURE, METADATA, FORMATS[name])

        assert content.startswith(SIGNATURES[name])
        image = opened(content)
        assert (image.format, image.size, image.mode) == (name.upper(), (48, 32), "RGB")
        difference = np.abs(np.asarray(image, dtype=int) - np.asarray(PICTURE, dtype=int))
        assert difference.max() <= (0 if name == "png" else 12)

    def test_what_it_carries_comes_back(self, name: str) -> None:
        content = encode_image(PICTURE, METADATA, FORMATS[name])

        assert read_metadata(content) == METADATA
        assert read_parameters(content) == parameters_text(METADATA, (48, 32))

    def test_stripped_it_carries_nothing(self, name: str) -> None:
        content = encode_image(PICTURE, None, FORMATS[name])

        assert read_metadata(content) == {}
        assert read_parameters(content) == ""
        for trace in (b"cyberimage", b"parameters", b"DDIM", "DDIM".encode("utf-16-be"), b"Exif"):
            assert trace not in content

    def test_a_picture_and_its_parameters_give_the_same_file_each_time(self, name: str) -> None:
        files = {encode_image(noise(), METADATA, FORMATS[name]) for _ in range(3)}

        assert len(files) == 1

    def test_its_files_are_known_by_their_keys(self, name: str) -> None:
        assert media_type_of(f"2031/02/03/x.{FORMATS[name].extension}") == f"image/{name}"


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])  # it looks for parameters in these
def test_an_independent_reader_finds_the_parameters(name: str) -> None:
    metadata = METADATA | {"prompt": "a castle, (moat:1.2)", "negative_prompt": "fog"}
    found = ParserManager().parse(io.BytesIO(encode_image(PICTURE, metadata, FORMATS[name])))

    assert found is not None
    assert [prompt.value for prompt in found.prompts] == ["a castle, (moat:1.2)"]
    assert [prompt.value for prompt in found.negative_prompts] == ["fog"]
    assert {model.name for model in found.models} == {"shapes"}
    (sampler,) = found.samplers
    assert sampler.name == "DDIM"
    assert sampler.parameters["seed"] == str(2**62)
    assert sampler.parameters["steps"] == "20"


@LOSSY
def test_quality_counts(name: str) -> None:
    sizes = [len(encode_image(noise(), None, FORMATS[name], quality)) for quality in (10, 50, 95)]

    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert len(encode_image(noise(), None, FORMATS[name])) == len(
        encode_image(noise(), None, FORMATS[name], FORMATS[name].quality)
    )


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_piexif_reads_the_comment_as_automatic1111_does(name: str) -> None:
    content = encode_image(PICTURE, METADATA, FORMATS[name])
    block = piexif.load(opened(content).info["exif"])

    comment = piexif.helper.UserComment.load(block["Exif"][piexif.ExifIFD.UserComment])
    assert comment == parameters_text(METADATA, (48, 32))


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_the_comment_of_automatic1111_is_read(name: str) -> None:
    comment = piexif.helper.UserComment.dump("a castle\nSteps: 20", encoding="unicode")
    file = io.BytesIO()
    PICTURE.save(file, format=name, exif=piexif.dump({"Exif": {piexif.ExifIFD.UserComment: comment}}))

    assert read_parameters(file.getvalue()) == "a castle\nSteps: 20"
    assert read_metadata(file.getvalue()) == {}


@EVERY_FORMAT
def test_what_is_too_long_for_a_jpeg_is_left_out(name: str) -> None:
    metadata = {"prompt": "x" * 100_000}
    content = encode_image(PICTURE, metadata, FORMATS[name])

    assert opened(content).size == PICTURE.size
    assert read_metadata(content) == ({} if name == "jpeg" else metadata)
    assert read_parameters(content).startswith("x" * 100_000) != (name == "jpeg")


def test_the_longest_that_fits_a_jpeg_is_there() -> None:
    metadata = {"prompt": "x" * 32_000}

    assert read_metadata(encode_image(PICTURE, metadata, FORMATS["jpeg"])) == metadata
    assert read_parameters(encode_image(PICTURE, metadata, FORMATS["jpeg"])).startswith("x" * 32_000)


@pytest.mark.parametrize(
    "packet",
    [
        b"<x:xmpmeta",
        b"\xff\xfe not text",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a xmlns:y="urn:cyberimage:metadata:1">&b;</a>',
        b'<a xmlns:y="urn:cyberimage:metadata:1"/>',
    ],
)
def test_a_strange_xmp_packet_says_nothing(packet: bytes) -> None:
    file = io.BytesIO()
    PICTURE.save(file, format="webp", xmp=packet)

    assert read_metadata(file.getvalue()) == {}


class TestPng:
    @pytest.fixture(params=["fpng", "pillow"], autouse=True)
    def encoder(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        if request.param == "pillow":
            monkeypatch.setattr(png, "fpng", None)
        else:
            assert png.fpng is not None
        return request.param

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
    @pytest.mark.parametrize("size", [(1, 1), (7, 13), (256, 64)])
    def test_every_pixel_is_kept(self, mode: str, size: tuple[int, int]) -> None:
        picture = noise().convert(mode).resize(size)

        image = opened(encode_image(picture, METADATA))
        assert (image.mode, image.size) == (mode, size)
        assert image.tobytes() == picture.tobytes()

    def test_pixels_without_any_pattern_are_kept(self) -> None:
        values = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)

        assert (np.asarray(opened(encode_image(PIL.Image.fromarray(values), METADATA))) == values).all()

    def test_texts_stand_before_the_pixels(self) -> None:
        names = chunks_of(encode_image(PICTURE, METADATA))

        assert names[:3] == [b"IHDR", b"iTXt", b"tEXt"]
        assert names[-1] == b"IEND"

    def test_its_checksums_are_right(self) -> None:
        image = PIL.Image.open(io.BytesIO(encode_image(PICTURE, METADATA)))

        image.verify()

    def test_the_json_is_a_chunk_of_its_own(self) -> None:
        assert json.loads(opened(encode_image(PICTURE, METADATA)).info["cyberimage"]) == METADATA
