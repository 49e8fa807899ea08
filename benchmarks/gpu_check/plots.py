"""Plots of the report."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gpu_check.report import Section

_INCHES_OF_A_PANEL = 3.6
_COLUMNS = {"size": 0, "clients": 1, "by": 2, "images a second": 3, "p95 in seconds": 5}


def plot_company(section: Section, folder: Path, name: str) -> None:
    """Draw images a second and the waiting times over the clients, for each size, and add the file to the section.

    Args:
        section: Of :func:`benchmarks.gpu_check.company.check_company`.
        folder: Of the report.
        name: Of the file, without its suffix.
    """
    import matplotlib as mpl  # noqa: PLC0415 - only where there is something to plot

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = [row for row in section.rows if row[_COLUMNS["clients"]].isdigit()]
    sizes = sorted({row[0] for row in rows})
    if not sizes:
        return
    measures = ("images a second", "p95 in seconds")
    figure, panels = plt.subplots(
        len(measures),
        len(sizes),
        squeeze=False,
        figsize=(_INCHES_OF_A_PANEL * len(sizes), _INCHES_OF_A_PANEL * len(measures) * 0.8),
    )
    for line, measure in zip(panels, measures, strict=True):
        for panel, size in zip(line, sizes, strict=True):
            _plot(panel, [row for row in rows if row[0] == size], measure)
            panel.set_title(f"{size}x{size}", fontsize=9)
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg")
    plt.close(figure)
    section.plots[f"{name}.svg"] = section.title


def _plot(panel: object, rows: list[list[object]], measure: str) -> None:
    for server in dict.fromkeys(row[_COLUMNS["by"]] for row in rows):
        points = [(int(row[_COLUMNS["clients"]]), row[_COLUMNS[measure]]) for row in rows if row[2] == server]
        panel.plot(*zip(*points, strict=True), marker="o", label=server)
    panel.set_xlabel("clients", fontsize=8)
    panel.set_ylabel(measure, fontsize=8)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
