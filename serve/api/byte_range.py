"""Answers with bytes, or with the part of them that a Range header asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re

from fastapi import Response

from serve.api.errors import error_response

_SINGLE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


def respond_with_bytes(content: bytes, media_type: str, headers: dict[str, str], byte_range: str | None) -> Response:
    """Answer 200 with everything, 206 with a part, or 416 where there is no such part.

    Args:
        content: Everything.
        media_type: Of the content.
        headers: To send along.
        byte_range: The Range header. Several ranges, other units and nonsense are answered with everything, as the RFC
            allows.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    asked = _SINGLE_RANGE.fullmatch((byte_range or "").strip())
    if asked is None or not _is_valid(asked[1], asked[2]):
        return Response(content, media_type=media_type, headers=headers)
    start, end = _bounds(asked[1], asked[2], len(content))
    if start >= end:
        return error_response(
            416, f"Range: the image has only {len(content)} bytes, from 0 on.", _content_range("*", len(content))
        )
    headers |= _content_range(f"{start}-{end - 1}", len(content))
    return Response(content[start:end], status_code=206, media_type=media_type, headers=headers)


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
