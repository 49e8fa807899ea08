"""Weights inside a prompt, as AUTOMATIC1111's web page writes them: ``a (red:1.3) circle``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STRONGER = 1.1  # of each pair of round brackets
_WEAKER = 1 / 1.1  # of each pair of square brackets
_TOKEN = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\])
    | :\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)
    | (?P<bracket>[()\[\]])
    | (?P<text>[^\\()\[\]:]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Fragment:
    """A piece of a prompt and how strongly it counts; 1 is as it is written."""

    text: str
    weight: float = 1.0


def read_weights(prompt: str) -> list[Fragment]:
    r"""Take a prompt apart at its weights.

    ``(words:1.3)`` counts its words 1.3 times, ``(words)`` 1.1 times, ``[words]`` the 1.1th part; brackets may be
    within brackets, ``\(`` is a bracket to be drawn, and what is never closed weighs to the end.

    Args:
        prompt: Any text.

    Returns:
        Its pieces in order, neighbours of equal weight joined; a single empty one for an empty prompt.
    """
    fragments: list[Fragment] = []
    rounds: list[int] = []
    squares: list[int] = []
    for match in _TOKEN.finditer(prompt):
        bracket, weight = match["bracket"], match["weight"]
        if weight is not None and rounds:
            _multiply(fragments, rounds.pop(), max(0.0, float(weight)))
        elif weight is not None:
            fragments.append(Fragment(match[0]))
        elif bracket == "(":
            rounds.append(len(fragments))
        elif bracket == "[":
            squares.append(len(fragments))
        elif bracket == ")" and rounds:
            _multiply(fragments, rounds.pop(), _STRONGER)
        elif bracket == "]" and squares:
            _multiply(fragments, squares.pop(), _WEAKER)
        else:
            fragments.append(Fragment(match["escaped"] or match[0]))
    for start in rounds:
        _multiply(fragments, start, _STRONGER)
    for start in squares:
        _multiply(fragments, start, _WEAKER)
    return _joined(fragments)


def _multiply(fragments: list[Fragment], start: int, factor: float) -> None:
    for fragment in fragments[start:]:
        fragment.weight *= factor


def _joined(fragments: list[Fragment]) -> list[Fragment]:
    joined: list[Fragment] = []
    for fragment in fragments:
        if joined and joined[-1].weight == fragment.weight:
            joined[-1].text += fragment.text
        else:
            joined.append(fragment)
    return joined or [Fragment("")]
