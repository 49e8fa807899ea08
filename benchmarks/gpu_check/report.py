"""The report of the checks: as JSON for programs, as Markdown with plots for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Verdict(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    MEASURED = "measured"
    NOT_RUN = "not run"


@dataclass
class Section:
    """One check's part of the report.

    Attributes:
        title: For people.
        columns: Headings of its table.
        rows: A value for each heading.
        verdict: Of the whole check.
        notes: Sentences below the table.
        plots: Files beside the report, with what they show.
        seconds: That the check took.
    """

    title: str
    columns: Sequence[str] = ()
    rows: list[list[Any]] = field(default_factory=list)
    verdict: Verdict = Verdict.MEASURED
    notes: list[str] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def judge(self, passed: bool, *row: Any) -> None:
        """Add a row that ends with its own verdict; one that failed fails the section."""
        self.rows.append([*row, (Verdict.PASSED if passed else Verdict.FAILED).value])
        if not passed:
            self.verdict = Verdict.FAILED
        elif self.verdict is not Verdict.FAILED:
            self.verdict = Verdict.PASSED


def write_report(folder: Path, heading: str, sections: Sequence[Section]) -> None:
    """Write ``report.json`` and ``report.md``.

    Args:
        folder: That holds the plots already.
        heading: One line: the machine and what its models are.
        sections: In their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"heading": heading, "sections": [asdict(section) for section in sections]}
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(as_markdown(heading, sections), encoding="utf-8")


def as_markdown(heading: str, sections: Sequence[Section]) -> str:
    """The report as Markdown."""
    failed = [section.title for section in sections if section.verdict is Verdict.FAILED]
    parts = [f"# GPU check\n\n{heading}\n\n**{'Failed: ' + ', '.join(failed) if failed else 'Nothing failed.'}**\n"]
    for section in sections:
        parts.append(f"## {section.title}: {section.verdict.value} ({section.seconds:.0f} s)\n")
        if section.rows:
            parts.append(_table(section))
        parts.extend(f"{note}\n" for note in section.notes)
        parts.extend(f"![{what}]({file})\n" for file, what in section.plots.items())
    return "\n".join(parts)


def _table(section: Section) -> str:
    lines = [section.columns, ["---"] * len(section.columns), *section.rows]
    return "\n".join("| " + " | ".join(map(_written, line)) + " |" for line in lines) + "\n"


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
