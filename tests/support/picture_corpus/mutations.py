"""What is done to a file: at any byte, or with knowledge of the format, so that decoding goes deep."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

from tests.support.picture_corpus.containers import (
    Part,
    boxes_in,
    boxes_of,
    jpeg_of,
    jpeg_segments,
    png_chunks,
    png_of,
    riff_chunks,
    riff_of,
)

Mutation = Callable[[bytes, random.Random], bytes]
# Numbers at which lengths, counts and offsets go wrong.
_EDGES = (
    0,
    1,
    2,
    4,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x3FFF,
    0x4000,
    0x7FFF,
    0xFFFF,
    0x10000,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_MOST = 200_000


def mutations_of(content: bytes) -> list[Mutation]:
    """What can be done to a file of this format."""
    own: list[Mutation] = []
    if content.startswith(b"\x89PNG"):
        own = [png_parts, png_inside, png_pixels, png_size, tiff_inside]
    elif content.startswith(b"\xff\xd8"):
        own = [jpeg_parts, jpeg_inside, jpeg_codes, jpeg_size, jpeg_repeated, tiff_inside]
    elif content.startswith(b"RIFF"):
        own = [riff_parts, riff_inside, riff_lengths, riff_size, tiff_inside]
    elif content[4:8] == b"ftyp":
        own = [box_parts, box_inside, box_nested, tiff_inside]
    return [*own, *own, bits, run, cut, inserted, removed, number]


def bits(content: bytes, chance: random.Random) -> bytes:
    """Turn bits over."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 10, 50))):
        if found:
            found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def run(content: bytes, chance: random.Random) -> bytes:
    """Overwrite a run of bytes with the same or with any ones."""
    start, length = chance.randrange(len(content) + 1), chance.choice((1, 4, 16, 100, 1000))
    filler = chance.choice((bytes(length), b"\xff" * length, b"\x55" * length, chance.randbytes(length)))
    return content[:start] + filler[: len(content) - start] + content[start + length :]


def cut(content: bytes, chance: random.Random) -> bytes:
    """Leave out the end."""
    return content[: chance.randrange(len(content) + 1)]


def inserted(content: bytes, chance: random.Random) -> bytes:
    """Put bytes in, any ones or some of the file's own."""
    at, start = chance.randrange(len(content) + 1), chance.randrange(len(content) + 1)
    length = chance.choice((1, 2, 16, 300, 5000))
    return content[:at] + chance.choice((chance.randbytes(length), content[start : start + length])) + content[at:]


def removed(content: bytes, chance: random.Random) -> bytes:
    """Take bytes out."""
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.choice((1, 2, 16, 300)) :]


def number(content: bytes, chance: random.Random) -> bytes:
    """Write a number at which something may go wrong: of one, two or four bytes, of either order."""
    code = chance.choice(("B", ">H", "<H", ">I", "<I"))
    size = struct.calcsize(code)
    if len(content) < size:
        return content
    return _at(content, chance.randrange(len(content) - size + 1), code, chance.choice(_EDGES))


def spliced(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Begin with one file and end with another."""
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def png_parts(content: bytes, chance: random.Random) -> bytes:
    """Repeat, drop, swap or rename chunks."""
    names = (
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"tRNS",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"iCCP",
        b"eXIf",
        b"zTXt",
        b"IEND",
        b"\0\0\0\0",
    )
    return png_of(_shuffled(png_chunks(content), names, chance))


def png_inside(content: bytes, chance: random.Random) -> bytes:
    """Damage a chunk, and make its checksum right."""
    return png_of(_damaged(png_chunks(content), chance))


def png_pixels(content: bytes, chance: random.Random) -> bytes:
    """Damage the pixels, or a text, before they are compressed."""
    parts = png_chunks(content)
    at = _choice_of(parts, (b"IDAT", b"zTXt", b"iCCP", b"fdAT"), chance)
    if at is None:
        return png_inside(content, chance)
    name, data = parts[at]
    start = 0 if name == b"IDAT" else data.find(b"\0") + 2
    with suppress(zlib.error):
        plain = zlib.decompress(data[start:])
        plain = chance.choice((bits, run, cut, inserted, _bomb))(plain, chance)
        parts[at] = name, data[:start] + zlib.compress(plain, chance.choice((0, 1, 9)))
    return png_of(parts)


def png_size(content: bytes, chance: random.Random) -> bytes:
    """Change what the header says: width, height, depth, colours, interlacing."""
    parts = png_chunks(content)
    if parts and parts[0][0] == b"IHDR" and len(parts[0][1]) >= 13:
        header = parts[0][1]
        for _ in range(chance.choice((1, 2))):
            code, at = chance.choice(((">I", 0), (">I", 4), ("B", 8), ("B", 9), ("B", 12)))
            header = _at(header, at, code, chance.choice(_SIDES) if code == ">I" else chance.randrange(20))
        parts[0] = b"IHDR", header
    return png_of(parts)


def jpeg_parts(content: bytes, chance: random.Random) -> bytes:
    """Repeat, drop, swap or rename segments."""
    return jpeg_of(_shuffled(jpeg_segments(content), _JPEG_HEADS, chance))


def jpeg_repeated(content: bytes, chance: random.Random) -> bytes:
    """Repeat a table or a scan often."""
    parts = jpeg_segments(content)
    at = chance.randrange(len(parts))
    times = min(chance.choice((5, 99, 101, 2000)), _MOST // (len(parts[at][1]) + 4))
    return jpeg_of([*parts[:at], *[parts[at]] * times, *parts[at + 1 :]])


def jpeg_inside(content: bytes, chance: random.Random) -> bytes:
    """Damage a segment, with its length as it was or made right."""
    parts = _damaged(jpeg_segments(content), chance)
    if chance.random() < 0.5:
        parts = [(_length_of(head, data), data) for head, data in parts]
    return jpeg_of(parts)


def jpeg_codes(content: bytes, chance: random.Random) -> bytes:
    """Damage the codes of a scan, and let no byte of it be a marker."""
    parts = jpeg_segments(content)
    at = _choice_of([(head[1:2], data) for head, data in parts], (b"\xda",), chance)
    if at is None:
        return bits(content, chance)
    head, data = parts[at]
    start = (head[2] << 8 | head[3]) - 2
    damaged = chance.choice((bits, run, cut, inserted))(data[start:], chance)
    parts[at] = head, data[:start] + damaged.replace(b"\xff", b"\xff\0")
    return jpeg_of(parts)


def jpeg_size(content: bytes, chance: random.Random) -> bytes:
    """Change the frame: depth, height, width, number of components, sampling, and the kind of codes."""
    parts = jpeg_segments(content)
    for at, (head, frame) in enumerate(parts):
        if head[1:2] in _FRAMES and len(frame) > 7:
            code, where, values = chance.choice((
                ("B", 0, (1, 8, 12, 16)), (">H", 1, _SIDES), (">H", 3, _SIDES), ("B", 5, range(6)),
                ("B", 7, (0x11, 0x14, 0x41, 0x44, 0x00, 0xFF, 0x12)), ("B", 8, range(5)),
            ))  # fmt: skip
            changed = _at(frame, where, code, chance.choice(values))
            if chance.random() < 0.2:
                changed = _at(_at(changed, 1, ">H", chance.choice(_SIDES)), 3, ">H", chance.choice(_SIDES))
            kind = chance.choice((*_FRAMES, *[head[1:2]] * 30))
            parts[at] = head[:1] + kind + head[2:], changed
    return jpeg_of(parts)


def riff_parts(content: bytes, chance: random.Random) -> bytes:
    """Repeat, drop, swap or rename chunks."""
    names = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
    return riff_of(_shuffled(riff_chunks(content), names, chance))


def riff_inside(content: bytes, chance: random.Random) -> bytes:
    """Damage a chunk, with lengths made right."""
    return riff_of(_damaged(riff_chunks(content), chance))


def riff_lengths(content: bytes, chance: random.Random) -> bytes:
    """Let a length lie: the file's own, or that of a chunk."""
    places = [4]
    position = 12
    for _, data in riff_chunks(content):
        places.append(position + 4)
        position += 8 + len(data) + len(data) % 2
    place = chance.choice(places)
    return _at(content, place, "<I", chance.choice((*_EDGES, len(content), len(content) - 8)))


def riff_size(content: bytes, chance: random.Random) -> bytes:
    """Change the size of the canvas or of the frame, or the flags of what is in the file."""
    parts = riff_chunks(content)
    at = _choice_of(parts, (b"VP8X", b"VP8 ", b"VP8L", b"ANMF"), chance)
    if at is None:
        return bits(content, chance)
    name, data = parts[at]
    found = bytearray(data)
    for _ in range(chance.choice((1, 2, 4))):
        place = chance.randrange({b"VP8L": 5, b"ANMF": 16}.get(name, 10))
        if place < len(found):
            found[place] = chance.choice((0, 1, 0x3F, 0x7F, 0xFF, chance.randrange(256)))
    parts[at] = name, bytes(found)
    return riff_of(parts)


def box_parts(content: bytes, chance: random.Random) -> bytes:
    """Repeat, drop, swap or rename boxes."""
    names = (b"ftyp", b"meta", b"mdat", b"moov", b"iprp", b"iloc", b"free")
    return boxes_of(_shuffled(boxes_in(content), names, chance))


def box_inside(content: bytes, chance: random.Random) -> bytes:
    """Damage a box, with its length made right."""
    return boxes_of(_damaged(boxes_in(content), chance))


def box_nested(content: bytes, chance: random.Random) -> bytes:
    """Put a box into itself, often, or change a field of a box that stands within another."""
    names = (b"hdlr", b"pitm", b"iloc", b"iinf", b"infe", b"iprp", b"ipco", b"ispe", b"av1C", b"pixi", b"ipma", b"iref")
    name = chance.choice(names)
    at = content.find(name)
    if at < 4:
        return bits(content, chance)
    if chance.random() < 0.3:
        inner = content[at - 4 : at + 40]
        for _ in range(chance.choice((3, 200))):
            inner = boxes_of([(name, inner)])
        return content[: at - 4] + inner + content[at - 4 :]
    found = content
    for _ in range(chance.choice((1, 3))):
        code = chance.choice(("B", ">H", ">I"))
        place = min(at - 4 + chance.randrange(40), len(content) - 4)
        found = _at(found, place, code, chance.choice((*_EDGES, *_SIDES)))
    return found


def tiff_inside(content: bytes, chance: random.Random) -> bytes:
    """Break the EXIF block within: offsets out of it, directories in a circle, counts without end."""
    order, start = "<", content.find(b"II*\0")
    if start < 0:
        order, start = ">", content.find(b"MM\0*")
    if start < 0:
        return number(content, chance)
    found = content
    for _ in range(chance.choice((1, 2, 5))):
        entry = start + 10 + 12 * chance.randrange(4)
        code, place, values = chance.choice((
            ("I", start + 4, (0, 4, 8, 9, 20, 2**31)), ("H", start + 8, (0, 1, 4, 500, 65_535)),
            ("H", entry, (0x0112, 0x8769, 0x8825, 0x0111, 0x927C, 0x014A)), ("H", entry + 2, range(20)),
            ("I", entry + 4, _EDGES), ("I", entry + 8, (*_EDGES, 8, start)),
        ))  # fmt: skip
        if place + 4 <= len(found):
            found = _at(found, place, order + code, chance.choice(values))
    chunks = png_chunks(found) if found.startswith(b"\x89PNG") else None
    return png_of(chunks) if chunks else found


_SIDES = (0, 1, 2, 7, 40, 41, 255, 256, 1000, 5792, 16_383, 16_384, 65_500, 65_535, 2**25, 2**31 - 1)
_FRAMES = tuple(bytes([each]) for each in (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xCD))
_JPEG_HEADS = tuple(
    bytes([0xFF, each, 0, length])
    for each, length in ((0xC0, 17), (0xC2, 17), (0xC4, 31), (0xDA, 8), (0xDB, 67), (0xDD, 4), (0xE1, 2), (0xFE, 9))
)


def _shuffled(parts: list[Part], names: tuple[bytes, ...], chance: random.Random) -> list[Part]:
    found = list(parts)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if not found:
            break
        at, other = chance.randrange(len(found)), chance.randrange(len(found))
        what = chance.randrange(5)
        if what == 0:
            found[at:at] = [found[other]] * chance.choice((1, 2, 30))
        elif what == 1:
            del found[at]
        elif what == 2:
            found[at], found[other] = found[other], found[at]
        elif what == 3:
            found[at] = chance.choice(names), found[at][1]
        else:
            found.insert(at, (chance.choice(names), chance.randbytes(chance.choice((0, 1, 13, 300)))))
        if sum(len(data) for _, data in found) > _MOST:
            return parts
    return found


def _damaged(parts: list[Part], chance: random.Random) -> list[Part]:
    found = list(parts)
    if found:
        at = chance.randrange(len(found))
        name, data = found[at]
        found[at] = name, chance.choice((bits, run, cut, inserted, removed, number))(data, chance)
    return found


def _choice_of(parts: list[Part], names: tuple[bytes, ...], chance: random.Random) -> int | None:
    found = [at for at, (name, _) in enumerate(parts) if name in names]
    return chance.choice(found) if found else None


def _bomb(content: bytes, chance: random.Random) -> bytes:
    return content + bytes(chance.choice((10_000, 3_000_000)))


def _length_of(head: bytes, data: bytes) -> bytes:
    return head[:2] + struct.pack(">H", min(len(data) + 2, 65_535)) if len(head) == 4 and head[1] != 0xDA else head


def _at(content: bytes, place: int, code: str, value: int) -> bytes:
    size = struct.calcsize(code)
    written = (value % 256**size).to_bytes(size, "little" if code[0] == "<" else "big")
    return content[:place] + written + content[place + size :]
