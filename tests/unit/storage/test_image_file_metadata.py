import io
import json
import re
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.PngImagePlugin import PngInfo

from deployments.storage.metadata.exif_and_xmp import xmp_of
from deployments.storage.metadata.image_file import (
    UnreadableImageError,
    encode_image,
    read_metadata,
    read_parameters,
)
from deployments.storage.metadata.infotext import parameters_text
from tests.support.hostile_files import file_of, png

METADATA: dict[str, Any] = {
    "model_id": "shapes",
    "prompt": "a large red circle",
    "negative_prompt": "blue",
    "sampler": "DDIM",
    "version": "CyberImage 0.1.0",
    "settings": {"num_inference_steps": 20, "guidance_scale": 3.0, "seed": 2**62, "width": 48, "height": 32},
}
PICTURE = PIL.Image.linear_gradient("L").resize((48, 32)).convert("RGB")


def read_infotext(text: str) -> dict[str, str]:
    """The reader of AUTOMATIC1111's modules/infotext_utils.py, in few words."""
    *lines, last = text.strip().split("\n")
    prompts: dict[bool, list[str]] = {False: [], True: []}
    negative = False
    for line in lines:
        negative = negative or line.startswith("Negative prompt:")
        prompts[negative].append(line.removeprefix("Negative prompt:").strip())
    found = {"Prompt": "\n".join(prompts[False]), "Negative prompt": "\n".join(prompts[True])}
    for name, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last):
        found[name] = json.loads(value) if value.startswith('"') else value
    return found


def test_text_is_as_automatic1111_writes_it() -> None:
    assert parameters_text(METADATA, (48, 32)) == (
        "a large red circle\n"
        "Negative prompt: blue\n"
        "Steps: 20, Sampler: DDIM, CFG scale: 3, Seed: 4611686018427387904, Size: 48x32, Model: shapes, "
        "Version: CyberImage 0.1.0"
    )


def test_what_is_not_known_is_left_out() -> None:
    text = parameters_text({"prompt": "x", "settings": {"guidance_scale": 3.5}}, (64, 64))

    assert text == "x\nCFG scale: 3.5, Size: 64x64"


def test_values_with_separators_are_quoted() -> None:
    found = read_infotext(parameters_text({**METADATA, "model_id": "a, b: c"}, (48, 32)))

    assert found["Model"] == "a, b: c"
    assert found["Version"] == "CyberImage 0.1.0"


def test_pillow_reads_both_chunks_and_the_picture() -> None:
    with PIL.Image.open(io.BytesIO(encode_image(PICTURE, METADATA))) as image:
        image.load()
        assert image.format == "PNG"
        assert image.info["parameters"] == parameters_text(METADATA, (48, 32))
        assert json.loads(image.info["cyberimage"]) == METADATA
        assert image.tobytes() == PICTURE.tobytes()


def test_metadata_comes_back() -> None:
    assert read_metadata(encode_image(PICTURE, METADATA)) == METADATA


@pytest.mark.parametrize(
    "prompt",
    [
        "línea\nzwei\n三行目 🟥",
        "tab\tand\r\nreturn",
        'quotes " and \\ and {braces}',
        "nul \0 inside",
        "half a pair \ud83d",
        "Negative prompt: not really\nSteps: 3",
        "",
        "x" * 200_000,
    ],
)
def test_any_prompt_is_kept(prompt: str) -> None:
    metadata = {**METADATA, "prompt": prompt}
    content = encode_image(PICTURE, metadata)

    assert read_metadata(content)["prompt"] == prompt
    with PIL.Image.open(io.BytesIO(content)) as image:
        image.load()
        assert read_infotext(image.info["parameters"])["Steps"] == "20"
        assert "\0" not in image.info["parameters"]


def test_unicode_prompt_is_read_by_automatic1111() -> None:
    metadata = {**METADATA, "prompt": "línea\n三行目 🟥", "negative_prompt": "größe\nzwei"}
    with PIL.Image.open(io.BytesIO(encode_image(PICTURE, metadata))) as image:
        found = read_infotext(image.info["parameters"])

    assert found["Prompt"] == "línea\n三行目 🟥"
    assert found["Negative prompt"] == "größe\nzwei"
    assert (found["Steps"], found["Seed"], found["Size"]) == ("20", str(2**62), "48x32")


@settings(max_examples=50)
@given(st.text(), st.text())
def test_any_text_at_all(prompt: str, negative: str) -> None:
    metadata = {"prompt": prompt, "negative_prompt": negative}

    assert read_metadata(encode_image(PICTURE, metadata)) == metadata


def test_png_of_another_origin_has_no_metadata() -> None:
    file = io.BytesIO()
    PICTURE.save(file, format="PNG")

    assert read_metadata(file.getvalue()) == {}


def gif() -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, format="GIF")
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"hello", encode_image(PICTURE, METADATA)[:20], gif()])
def test_what_is_no_image(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="Not a readable PNG, JPEG, WebP or AVIF file") as caught:
        read_metadata(content)
    assert caught.value.status == 422


@pytest.mark.parametrize("text", ["{half", "[1]"])
def test_damaged_metadata(text: str) -> None:
    chunks, file = PngInfo(), io.BytesIO()
    chunks.add_text("cyberimage", text)
    PICTURE.save(file, format="PNG", pnginfo=chunks)

    with pytest.raises(UnreadableImageError, match="damaged"):
        read_metadata(file.getvalue())


def test_numbers_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_image(PICTURE, {"settings": {"guidance_scale": float("nan")}})


def test_pixels_are_not_decoded() -> None:
    damaged = png(64, 48, (b"IDAT", b"no zlib"))
    assert (read_metadata(damaged), read_parameters(damaged)) == ({}, "")


def test_a_packet_larger_than_any_of_ours_is_not_parsed() -> None:
    nested = xmp_of('{"prompt": "x"}').replace(b"<rdf:Description", b"<a>" * 3_000_000 + b"<rdf:Description")
    assert read_metadata(file_of(PIL.Image.new("RGB", (8, 8)), "WEBP", xmp=nested)) == {}


def test_metadata_nested_without_end_are_damaged() -> None:
    chunks = PngInfo()
    chunks.add_text("cyberimage", "[" * 100_000)
    with pytest.raises(UnreadableImageError, match="metadata is damaged"):
        read_metadata(file_of(PIL.Image.new("RGB", (8, 8)), "PNG", pnginfo=chunks))
