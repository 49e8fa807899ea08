"""Values at the edges of the calendar, of numbers and of text, and the requests of every route that carry them."""

from __future__ import annotations

import copy
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

TIMES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00.000001+00:01",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59.999999-00:01",
    "10000-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "2030-02-30T00:00:00Z",
    "-0001-01-01T00:00:00Z",
)
WHOLE_NUMBERS = ("-1", "0", str(2**31), str(2**63 - 1), str(2**63), str(-(2**63) - 1), str(10**400), "1" + "0" * 5000)
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e308", "1e999", "-1e999", "1e-400", "-0.0")
TEXTS = ("", "\0", "a\0b", "\ud800", "a\udfffb", "\u202e", "\x1b[2J", "'", "%", "\\", "🟥" * 100)
PLACES = tuple(
    urlsafe_b64encode(f"{number}/{at}".encode()).decode().rstrip("=")
    for at in (*TIMES, "2030-01-01T00:00:00", "2030-01-01T00:00:00+23:59")
    for number in ("1", str(2**31 - 1))
) + tuple(
    urlsafe_b64encode(f"{number}/2030-01-01T00:00:00+00:00".encode()).decode().rstrip("=")
    for number in (*WHOLE_NUMBERS, "NaN", "1e3", "\0", "\u0661")
)

# As JSON has them. No field of a body is a time or a cursor.
_JSON_VALUES = (
    *WHOLE_NUMBERS,
    *NUMBERS,
    *(json.dumps(text) for text in (*TEXTS, *TIMES[:1], *WHOLE_NUMBERS[-2:], *NUMBERS[:2])),
    "null", "true", "[]", "{}", "[null]",
)  # fmt: skip
_PLACEHOLDER = "\ue000hostile\ue000"


@dataclass(frozen=True)
class HostileRequest:
    """A request with one value that nobody sends by mistake.

    Attributes:
        what: The place of the value.
        query: Percent-encoded.
    """

    method: str
    path: str
    what: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    def __str__(self) -> str:
        shown = self.query or self.content.decode("utf-8", "replace")
        return f"{self.method} {self.path[:200]} {self.what}: {shown[:300]} {self.headers}"


def hostile_requests(document: dict[str, Any], method: str, path: str, ids: dict[str, str]) -> Iterator[HostileRequest]:
    """Every parameter and every field of the body of a route, with each hostile value in turn.

    Args:
        document: The service's OpenAPI document.
        method: Of the route, in small letters.
        path: Of the route, as the document has it.
        ids: Values of the path's parameters that exist, by name.
    """
    operation = document["paths"][path][method]
    real = path.format(**ids)
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        for value in (*TIMES, *WHOLE_NUMBERS, *NUMBERS, *TEXTS, *PLACES):
            if parameter["in"] == "query":
                if value not in PLACES or name == "cursor":
                    yield HostileRequest(method, real, name, query=f"{name}={_quoted(value)}")
            elif parameter["in"] == "path":
                yield HostileRequest(method, path.format(**ids | {name: _quoted(value)}), name)
            elif all(" " <= letter <= "\xff" for letter in value):
                yield HostileRequest(method, real, name, headers={name: value})
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        headers = {"Content-Type": media_type}
        if media_type == "application/json":
            for place, body in _bodies(document, content["schema"]):
                yield HostileRequest(method, real, place, headers=headers, content=body)
        elif media_type == "multipart/form-data":
            for name in content["schema"]["properties"]:
                for value in (*WHOLE_NUMBERS, *NUMBERS, *TEXTS):
                    yield _form(method, real, name, value)


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _form(method: str, path: str, name: str, value: str) -> HostileRequest:
    parts = {"prompt": "a", "image": "no picture"} | {name: value}
    content = b"".join(
        f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'.encode() + text.encode("utf-8", "surrogatepass")
        + b"\r\n"
        for key, text in parts.items()
    ) + b"--x--\r\n"  # fmt: skip
    return HostileRequest(
        method, path, name, headers={"Content-Type": "multipart/form-data; boundary=x"}, content=content
    )


def _bodies(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Bodies of JSON that are as the example but for one field."""
    (example, *_) = schema["examples"]
    places = dict.fromkeys([*_places_of_schema(document, schema), *_places_of_example(example)])
    for place in places:
        template = json.dumps(_with(example, place, _PLACEHOLDER))
        for value in _JSON_VALUES:
            yield ".".join(map(str, place)), template.replace(json.dumps(_PLACEHOLDER), value).encode()


def _places_of_schema(document: dict[str, Any], schema: dict[str, Any], depth: int = 0) -> Iterator[tuple[Any, ...]]:
    """The fields of a body, and those of the objects in it."""
    if (named := schema.get("$ref")) is not None:
        schema = document["components"]["schemas"][named.rpartition("/")[2]]
    if depth > 4:
        return
    for name, of_field in schema.get("properties", {}).items():
        yield (name,)
        yield from ((name, *place) for place in _places_of_schema(document, of_field, depth + 1))
    if "items" in schema:
        yield (0,)
        yield from ((0, *place) for place in _places_of_schema(document, schema["items"], depth + 1))
    for choice in schema.get("anyOf", ()):
        yield from _places_of_schema(document, choice, depth)


def _places_of_example(example: Any) -> Iterator[tuple[Any, ...]]:
    items = example.items() if isinstance(example, dict) else enumerate(example) if isinstance(example, list) else ()
    for name, value in items:
        yield (name,)
        yield from ((name, *place) for place in _places_of_example(value))


def _with(example: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of the example with another value at a place, which is made where the example has none."""
    if not place:
        return value
    name, *rest = place
    if isinstance(name, int):
        items = copy.deepcopy(example) if isinstance(example, list) and example else [None]
        items[name] = _with(items[name], tuple(rest), value)
        return items
    fields = copy.deepcopy(example) if isinstance(example, dict) else {}
    fields[name] = _with(fields.get(name), tuple(rest), value)
    return fields
