"""The form in which a worker process and its owner exchange requests and answers: fields in JSON, and a file.

Nothing is pickled: what a worker says is data, even if a picture has taken the worker over.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

_LENGTHS = struct.Struct(">II")  # in bytes: of the JSON text, of the file


def write_frame(pipe: IO[bytes], fields: Mapping[str, Any], content: bytes = b"") -> None:
    """Write one frame.

    Args:
        pipe: To the other process.
        fields: What JSON can hold.
        content: A file of at most 4 GiB.

    Raises:
        OSError: The other process has ended.
    """
    text = json.dumps(fields).encode()
    pipe.write(_LENGTHS.pack(len(text), len(content)) + text)
    pipe.write(content)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one frame: its fields and its file.

    Raises:
        EOFError: The other process has ended.
    """
    text_length, content_length = _LENGTHS.unpack(_read(pipe, _LENGTHS.size))
    fields: dict[str, Any] = json.loads(_read(pipe, text_length))
    return fields, _read(pipe, content_length)


def _read(pipe: IO[bytes], length: int) -> bytes:
    content = pipe.read(length)
    if len(content) < length:
        raise EOFError
    return content
