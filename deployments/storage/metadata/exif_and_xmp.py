"""Texts in files that are not PNG: the parameters text as an EXIF comment, JSON as a property of an XMP packet.

AUTOMATIC1111 writes its text to ``UserComment`` of JPEG, WebP and AVIF (``modules/images.py``,
``save_image_with_geninfo``): 8 bytes that name the character set, then UTF-16, big-endian, as piexif has it. The EXIF
standard (CIPA DC-008, ``UserComment``) leaves the byte order open.
"""

from __future__ import annotations

import html
import struct
from xml.etree import ElementTree  # nosec B405

import PIL.Image
from PIL import ExifTags

_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"
# TIFF 6.0, section 2: types of fields, and the bytes of a directory with one field.
_LONG, _UNDEFINED, _DIRECTORY = 4, 7, 2 + 12 + 4
_NAMESPACE = "urn:cyberimage:metadata:1"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_LARGEST_PACKET = 8 * 2**20  # the largest request, every character of it escaped
# XMP specification, part 1, "Packet wrapper"; the id is the same in every packet.
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="{rdf}">'
    '<rdf:Description rdf:about="" xmlns:cyberimage="{namespace}" cyberimage:json="{json}"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def exif_of(comment: str) -> bytes:
    """Return an EXIF block with a comment.

    Args:
        comment: What UTF-16 can hold.
    """
    # By hand, as Pillow would give the comment the type BYTE, and readers such as piexif know it as UNDEFINED.
    value = _UNICODE + comment.encode("utf-16-be")
    header = struct.pack(">2sHI", b"MM", 42, 8)
    first = struct.pack(">HHHIII", 1, ExifTags.IFD.Exif, _LONG, 1, 8 + _DIRECTORY, 0)
    second = struct.pack(">HHHIII", 1, ExifTags.Base.UserComment, _UNDEFINED, len(value), 8 + 2 * _DIRECTORY, 0)
    return b"Exif\0\0" + header + first + second + value


def xmp_of(json_text: str) -> bytes:
    """Return an XMP packet that holds a JSON text.

    Args:
        json_text: In ASCII, as not every character of Unicode may stand in XML.
    """
    return _PACKET.format(rdf=_RDF, namespace=_NAMESPACE, json=html.escape(json_text)).encode()


def comment_in(image: PIL.Image.Image) -> str:
    """Return the comment of an image's EXIF block; empty where there is none that can be read."""
    exif = PIL.Image.Exif()
    exif.load(image.info.get("exif") or b"")  # image.getexif() would decode the pixels of a PNG that has none
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    if not isinstance(comment, bytes):
        return ""
    text = comment.removeprefix(_UNICODE).removeprefix(_ASCII)
    encoding = "utf-16-be" if comment.startswith(_UNICODE) else "utf-8"
    return text.decode(encoding, "replace").rstrip("\0")


def json_in(image: PIL.Image.Image) -> str:
    """Return the JSON text of an image's XMP packet, as ``xmp_of`` wrote it; empty where there is none."""
    packet = image.info.get("xmp", b"")
    if len(packet) > _LARGEST_PACKET:
        return ""
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)
    if _NAMESPACE not in text or "<!DOCTYPE" in text:  # entities of a stranger's file may expand without end
        return ""
    try:
        tree = ElementTree.fromstring(text.rstrip("\0"))  # noqa: S314 - no DOCTYPE, no entities # nosec B314
    except ElementTree.ParseError:
        return ""
    for description in tree.iter(f"{{{_RDF}}}Description"):
        found = description.get(f"{{{_NAMESPACE}}}json") or description.findtext(f"{{{_NAMESPACE}}}json")
        if found:
            return found
    return ""
