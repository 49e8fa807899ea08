from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

from deployments.storage.formats import FORMATS, available_formats
from deployments.storage.metadata.image_file import encode_image
from serve.cli.main import app

METADATA = {"prompt": "a castle", "settings": {"num_inference_steps": 20, "seed": 7}}
PICTURE = PIL.Image.new("RGB", (16, 16), "red")


def run(*arguments: object):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


@pytest.mark.parametrize("name", available_formats())
def test_both_texts_of_every_format(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"image.{FORMATS[name].extension}"
    file.write_bytes(encode_image(PICTURE, METADATA, FORMATS[name]))

    assert '"seed": 7' in run(file).stdout
    assert run("--parameters", file).stdout == "a castle\nSteps: 20, Seed: 7, Size: 16x16\n"


def test_text_of_another_program(tmp_path: Path) -> None:
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("parameters", "a castle\x1b[31m\nSteps: 4")
    PICTURE.save(tmp_path / "image.png", pnginfo=info)

    assert run(tmp_path / "image.png").stdout == "a castle[31m\nSteps: 4\n"


def test_a_file_without_parameters(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "image.png")
    result = run(tmp_path / "image.png")

    assert (result.exit_code, result.stderr) == (1, f"{tmp_path}/image.png: it carries no parameters\n")


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    assert "Not a readable PNG, JPEG, WebP or AVIF file" in run(tmp_path / "notes.txt").stderr
    missing = run(tmp_path / "missing.png")
    assert (missing.exit_code, missing.stderr) == (
        2,
        f"Cannot read {tmp_path}/missing.png: No such file or directory\n",
    )
