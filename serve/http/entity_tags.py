"""Entity tags, by which a client says which version of an answer it has (RFC 9110, section 13.1.2)."""

from __future__ import annotations


def tags_of(if_none_match: str) -> set[str]:
    """The tags of an If-None-Match header, weak or not, without their quotes."""
    return {tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")} - {""}
