"""The formats of image files."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import features


@dataclass(frozen=True)
class ImageFormat:
    """A format: its name for clients and for Pillow, what its files are called, and how it is compressed.

    Args:
        name: In small letters: png.
        extension: Of its files, without the dot.
        quality: What is taken where none is asked for, of 1 to 100; None where the format keeps every pixel as it is.
        feature: What Pillow calls the library that it needs; None where it needs none.
        options: Further arguments of Pillow's writer.
    """

    name: str
    extension: str
    quality: int | None = None
    feature: str | None = None
    options: tuple[tuple[str, int], ...] = ()

    @property
    def media_type(self) -> str:
        """Its media type: image/png."""
        return f"image/{self.name}"

    @property
    def is_available(self) -> bool:
        """Whether this installation of Pillow can write it."""
        return self.feature is None or bool(features.check(self.feature))


FORMATS = {
    each.name: each
    for each in (
        ImageFormat("png", "png"),
        # Half of the time of the library's own method, for 2 % more bytes: see docs/performance.md.
        ImageFormat("webp", "webp", quality=85, feature="webp", options=(("method", 2),)),
        ImageFormat("jpeg", "jpg", quality=90, feature="jpg"),
        # A ninth of the time of the library's own speed, for 15 % more bytes.
        ImageFormat("avif", "avif", quality=75, feature="avif", options=(("speed", 9),)),
    )
}
DEFAULT_FORMAT = "png"
_MEDIA_TYPES = {each.extension: each.media_type for each in FORMATS.values()}


def available_formats() -> list[str]:
    """The names of the formats that can be written here."""
    return [name for name, each in FORMATS.items() if each.is_available]


def format_of_file(name: str) -> str | None:
    """The format that a file's name asks for; None where its ending is that of the default or of no format.

    Args:
        name: Such as picture.jpeg.
    """
    ending = name.rpartition(".")[2].lower()
    found = next((each.name for each in FORMATS.values() if ending in (each.extension, each.name)), DEFAULT_FORMAT)
    return None if found == DEFAULT_FORMAT else found


def media_type_of(key: str) -> str:
    """The media type of what storage keeps under a key.

    Args:
        key: See ``deployments.storage.base.Storage``.
    """
    return _MEDIA_TYPES.get(key.rpartition(".")[2], "application/octet-stream")
