"""Puts pictures of the built-in model on one sheet: ``python -m models.training.pictures``."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from deployments.catalog.catalog import load_catalog
from models.training.adherence import CATALOG, Picture, generate, load_pipeline, read_settings

CAPTIONS = (
    "a large red circle on a blue background",
    "a small yellow star at the top, on a purple background",
    "green triangle, white background, on the left",
    "the background is black and the ring is cyan",
    "a pink cross on a green background, right",
    "on an orange background, a big black square",
    "show me a tiny white star on a red background, at the bottom",
    "cyan background, large purple ring",
    "a huge orange triangle, black background",
    "a yellow background with a blue square to the right",
    "draw a little red cross near the top, white background",
    "a pink circle on a cyan background, on the left side",
    "the star is orange, the background is blue",
    "a small green ring at the bottom, pink background",
    "purple square, large, yellow background",
    "a white circle, at the top of a black background",
    "a drawing of a big cyan cross on a purple background",
    "a black triangle on the right, orange background",
    "small blue circle on the left, white background",
    "a large yellow ring on a red background",
    "on a green background, a white cross in the middle",
    "an image of a pink square on a black background, bottom",
    "a red triangle, at the left of a cyan background",
    "a large purple star on a white background",
)

_COLUMNS = 6
_SCALE = 3
_GAP = 12
_TEXT_SIZE = 12
_TEXT_LINES = 2
_LINE_HEIGHT = 15
_TEXT_COLUMNS = 32
_PAPER = (255, 255, 255)
_EDGE = (208, 208, 208)
_INK = (48, 48, 48)


def main() -> None:
    """Read the command line, generate the pictures, and save the sheet."""
    entry = load_catalog(CATALOG, {}).get("shapes")
    options = _parse(Path(entry.location()))
    torch.set_num_threads(options.threads)
    settings = read_settings(entry, steps=None, guidance=None, batch=len(CAPTIONS))
    pictures = generate(load_pipeline(options.model), CAPTIONS, range(len(CAPTIONS)), settings)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lay_out(pictures, CAPTIONS).save(options.out, optimize=True)
    print(f"Saved {len(pictures)} pictures to {options.out}")


def lay_out(pictures: list[Picture], captions: tuple[str, ...]) -> Image.Image:
    """Lay pictures out in rows, three times as large, each above its caption.

    Args:
        pictures: RGB pictures, all of the same shape (height, width, 3).
        captions: One for each picture.
    """
    height, width = (_SCALE * length for length in pictures[0].shape[:2])
    cell_width, cell_height = width + _GAP, height + _TEXT_LINES * _LINE_HEIGHT + _GAP
    rows = -(-len(pictures) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * cell_width + _GAP, rows * cell_height + _GAP), _PAPER)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(index, _COLUMNS)
        left, top = _GAP + column * cell_width, _GAP + row * cell_height
        sheet.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC), (left, top))
        _write_caption(sheet, caption, left, top, width, height)
    return sheet


def _write_caption(sheet: Image.Image, caption: str, left: int, top: int, width: int, height: int) -> None:
    """Write a caption under its picture, and draw the thin edge that white pictures need on white paper."""
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=_EDGE)
    font = ImageFont.load_default(_TEXT_SIZE)
    for number, line in enumerate(textwrap.wrap(caption, _TEXT_COLUMNS)):
        middle = left + width / 2
        pen.text((middle, top + height + 4 + number * _LINE_HEIGHT), line, fill=_INK, font=font, anchor="ma")


def _parse(model: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put pictures of the built-in model on one sheet.")
    parser.add_argument("--out", type=Path, default=Path("docs/images/shapes.png"), help="the PNG file to write")
    parser.add_argument("--model", type=Path, default=model, help="folder of the pipeline")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
