"""Conditional requests (RFC 9110, section 13), and requests for a part of an image (section 14)."""

from __future__ import annotations

import re

from fastapi import Response

from deployments.jobs.records.jobs import Image
from deployments.storage.base import Storage, StorageError
from serve.errors import ApiError

_SINGLE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class UnsatisfiableRangeError(ApiError):
    """The image has no such part."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, length: int) -> None:
        super().__init__(f"Range: the image has only {length} bytes, from 0 on.")
        self.headers = _content_range("*", length)


def tags_of(if_none_match: str | None) -> set[str]:
    """The entity tags of an If-None-Match header, weak or not, without their quotes."""
    return {tag.strip().removeprefix("W/").strip('"') for tag in (if_none_match or "").split(",")} - {""}


def has_version(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has the version with a tag, by its If-None-Match header."""
    return not {tag, "*"}.isdisjoint(tags_of(if_none_match))


async def respond_with_image(
    storage: Storage, image: Image, headers: dict[str, str], byte_range: str | None
) -> Response:
    """Answer 200 with the image, or 206 with a part of it. Reads only that part.

    Args:
        storage: Holds the image.
        image: Its record.
        headers: Of the answer.
        byte_range: The Range header. Several ranges, other units and invalid ones get the whole image, as the RFC
            allows.

    Raises:
        UnsatisfiableRangeError: It has no such part.
        MissingObjectError: There is no file.
        StorageError: The file cannot be read, or is too short.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    asked = _SINGLE_RANGE.fullmatch((byte_range or "").strip())
    if asked is None or not _is_valid(asked[1], asked[2]):
        return Response(await storage.read(image.key), media_type=image.media_type, headers=headers)
    length = image.byte_count
    start, end = _bounds(asked[1], asked[2], length)
    if start >= end:
        raise UnsatisfiableRangeError(length)
    content = await storage.read_part(image.key, start, end)
    if len(content) != end - start:
        raise StorageError(f"The image file {image.key} is damaged: it is too short.")
    headers |= _content_range(f"{start}-{end - 1}", length)
    return Response(content, status_code=206, media_type=image.media_type, headers=headers)


def _is_valid(first: str, last: str) -> bool:
    if not first:
        return last != ""
    return not last or int(first) <= int(last)


def _bounds(first: str, last: str, length: int) -> tuple[int, int]:
    if not first:
        return max(0, length - int(last)), length
    return int(first), min(length, int(last) + 1) if last else length


def _content_range(part: str, length: int) -> dict[str, str]:
    return {"Content-Range": f"bytes {part}/{length}"}
