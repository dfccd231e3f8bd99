"""Sections of `metrics.json` as Markdown blocks: bullets, pipe tables, intervals in brackets, and a mark on foreign figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from model_artifacts.figures import Cell, Figure, Grid, cell_words, number_words, words
from model_artifacts.metrics import Section

Blocks: TypeAlias = list[str]


_TITLES = {
    "general": "how it was measured",
    "subgroups": "by group",
    "explanation": "how faithful the contributions are",
    "out_of_distribution": "data unlike those of training",
}


def print_sections(sections: Iterable[Section]) -> Blocks:
    return [block for section in sections for block in _print_section(section)]


def _print_section(section: Section) -> Blocks:
    title = _TITLES.get(section.name) or words(section.name)
    mark = " (published by others, not measured here)" if section.kind == "published" else ""
    blocks = [f"### {title[:1].upper()}{title[1:]}{mark}"]
    if section.notes:
        blocks.append(bullets([f"{name}: {text}" if name else text for name, text in section.notes]))
    if section.figures:
        beside = any(figure.beside for figure in section.figures)
        header = ("Figure", "Value", "Beside it") if beside else ("Figure", "Value")
        blocks.append(table(header, [_figure_row(figure)[: len(header)] for figure in section.figures]))
    for grid in section.grids:
        blocks += _print_grid(grid)
    spreads = {figure.spread for figure in _figures(section) if figure.spread}
    if spreads:
        blocks.append(f"In brackets: {' or '.join(sorted(spreads))}.")
    return blocks


def _print_grid(grid: Grid) -> Blocks:
    rows = [(name, *(cell_words(cell) for cell in cells)) for name, cells in grid.rows]
    title = [f"{grid.name[:1].upper()}{grid.name[1:]}:"] if grid.name else []
    return [*title, table((" ", *grid.columns), rows)]


def _figure_row(figure: Figure) -> tuple[str, str, str]:
    beside = ", ".join(f"{name} {number_words(number)}" for name, number in figure.beside)
    return figure.name, cell_words(figure), beside or "–"


def _figures(section: Section) -> list[Figure]:
    cells: list[Cell] = [cell for grid in section.grids for _, row in grid.rows for cell in row]
    return [*section.figures, *(cell for cell in cells if isinstance(cell, Figure))]


def grid_names(sections: Iterable[Section]) -> list[str]:
    grids = [grid for section in sections for grid in section.grids]
    return [name for grid in grids for name in (*grid.columns, *(row for row, _ in grid.rows))]


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
