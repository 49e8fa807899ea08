"""Full-text search of images: by the words of their prompts and model ids.

Both kinds of databases index the same words, which are found here: SQLite in an FTS5 table, PostgreSQL as a tsvector.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Select, cast, select
from sqlalchemy.dialects.postgresql import TSQUERY

from deployments.jobs.database.tables import image_words, images, jobs

LONGEST_WORD = 64
"""Characters of a word that count."""

# Chinese and Japanese have no spaces between words: each of their characters is a word.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+")


def words_of(text: str) -> list[str]:
    """Return the words of a text, case-folded, each as often as it occurs."""
    return [word[:LONGEST_WORD] for word in _WORD.findall(text.casefold())]


def indexed_words(prompt: str, model_id: str) -> str:
    """Return what is indexed of an image: each word once, parted by spaces."""
    return " ".join(dict.fromkeys(words_of(f"{prompt}\n{model_id}")))


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        words: Each must occur; the last one of each that was asked for may be the beginning of one.
        literals: Case-folded; each must occur as it is, symbols included.
    """

    words: tuple[tuple[str, bool], ...] = ()
    literals: tuple[str, ...] = ()

    @classmethod
    def of(cls, asked: str) -> Search:
        """Read what a person typed: each of its words must occur, or begin a word, in the prompt or the model id."""
        words: dict[tuple[str, bool], None] = {}
        literals: dict[str, None] = {}
        for each in asked.casefold().split():
            found = words_of(each)
            if found != [each]:
                literals[each] = None
            words |= dict.fromkeys((word, place == len(found)) for place, word in enumerate(found, 1))
        return cls(tuple(words), tuple(literals))

    def numbers(self, dialect: str, *, of_images: bool) -> Select[int]:
        """Return a SELECT of the numbers of the images that match.

        Args:
            dialect: ``sqlite`` or ``postgresql``.
            of_images: Whether ``images`` must be in it, for further conditions.
        """
        if not self.words:
            matching = select(images.c.number)
        else:
            found = self._in_postgresql() if dialect == "postgresql" else self._in_sqlite()
            # Not a join: SQLite may begin one with the images, and repeat the search for each of them.
            needs_images = of_images or self.literals
            matching = select(images.c.number).where(images.c.number.in_(found)) if needs_images else found
        if self.literals:
            matching = matching.join(jobs, jobs.c.id == images.c.job_id)
            for literal in self.literals:
                matching = matching.where(jobs.c.search_text.contains(literal, autoescape=True))
        return matching

    def _in_postgresql(self) -> Select[int]:
        query = " & ".join(f"'{word}'{':*' if is_beginning else ''}" for word, is_beginning in self.words)
        return select(image_words.c.number).where(image_words.c.words.bool_op("@@")(cast(query, TSQUERY)))

    def _in_sqlite(self) -> Select[int]:
        query = " AND ".join(f'"{word}"{"*" if is_beginning else ""}' for word, is_beginning in self.words)
        return select(image_words.c.rowid).where(image_words.c.image_words.op("MATCH")(query))
