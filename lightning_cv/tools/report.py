"""One self-contained page of figures and tables: no network, no script, readable on a phone and in the dark."""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Cell = str | int | float | None

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5b6570; --line: #d9dee3; --card: #f5f7f9; --page: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a3adb8; --line: #3a4149; --card: #22272d; --page: #16191d; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 40px 0 8px; padding-bottom: 4px; border-bottom: 1px solid var(--line); }
p { margin: 4px 0 12px; max-width: 75ch; }
.soft, figcaption { color: var(--soft); font-size: .92rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 12px; margin: 20px 0; }
.tile { background: var(--card); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .88rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 20px; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure b { display: block; margin-bottom: 4px; }
.frame { background: #fff; border: 1px solid var(--line); border-radius: 6px; overflow-x: auto; }
.frame img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.scroll { overflow-x: auto; margin-top: 18px; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 5px 14px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.text { min-width: 10ch; overflow-wrap: break-word; }
td:has(code) { min-width: 34ch; }
code { font: .88em/1.45 ui-monospace, Menlo, Consolas, monospace; }
@media (max-width: 560px) {
  main { padding: 16px 12px 48px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
  .tile b { font-size: 1.2rem; }
  .frame img { max-width: none; width: 520px; }
  .wide .frame img { width: 760px; }
  .fit .frame img { width: 100%; }
  th, td { padding-right: 10px; }
}
"""


@dataclass
class Headline:
    """One figure at the top: "0.74", "mAP at IoU 0.5"."""

    value: str
    label: str


@dataclass
class Figure:
    """A picture, as an array (H, W, 3) or the path of a PNG or SVG file, with a title and what to see in it.

    `wide` takes the page's whole width. On a phone pictures scroll sideways, unless `fit` shrinks them.
    """

    title: str
    image: NDArray[np.uint8] | Path
    caption: str = ""
    wide: bool = False
    fit: bool = False


@dataclass
class Table:
    """Rows of cells under column names; numbers are aligned, `code` names columns set in a fixed-width font."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    code: Sequence[str] = ()


@dataclass
class Section:
    """A heading with pictures and tables."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass
class Report:
    """The whole page."""

    title: str
    summary: str = ""
    headlines: Sequence[Headline] = ()
    sections: Sequence[Section] = field(default_factory=list)


def write_report(report: Report, path: Path) -> Path:
    """Write the page, all pictures inside of it; a page that was there stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(render(report), encoding="utf-8")
    os.replace(part, path)
    return path


def render(report: Report) -> str:
    """The page as HTML."""
    tiles = "".join(
        f"<div class=tile><b>{_text(h.value)}</b><span>{_text(h.label)}</span></div>" for h in report.headlines
    )
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_text(report.title)}</h1>\n<p class=soft>{_text(report.summary)}</p>\n"
        + (f"<div class=tiles>{tiles}</div>\n" if tiles else "")
        + "\n".join(_section(section) for section in report.sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{_text(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{_text(section.text)}</p>")
    if section.figures:
        parts.append("<div class=figures>" + "\n".join(_figure(one) for one in section.figures) + "</div>")
    parts += [_table(table) for table in section.tables]
    return "\n".join([*parts, "</section>"])


def _figure(figure: Figure) -> str:
    kind = f' class="{"wide " * figure.wide}{"fit" * figure.fit}"'
    caption = f"<figcaption>{_text(figure.caption)}</figcaption>" if figure.caption else ""
    return (
        f'<figure{kind}><b>{_text(figure.title)}</b><div class=frame><img alt="{_text(figure.title)}" '
        f'src="{_data_url(figure.image)}"></div>{caption}</figure>'
    )


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[i]) for row in table.rows) for i in range(len(table.columns))]
    head = "".join(_cell("th", name, number) for name, number in zip(table.columns, numeric, strict=True))
    lines = []
    for row in table.rows:
        cells = zip(table.columns, row, numeric, strict=True)
        lines.append(
            "<tr>" + "".join(_cell("td", _show(v), n, code=name in table.code) for name, v, n in cells) + "</tr>"
        )
    title = f"<b>{_text(table.title)}</b>" if table.title else ""
    caption = f"<p class=soft>{_text(table.caption)}</p>" if table.caption else ""
    body = "\n".join(lines)
    return f"<div class=scroll>{title}<table>\n<tr>{head}</tr>\n{body}\n</table></div>{caption}"


def _cell(tag: str, text: str, number: bool, *, code: bool = False) -> str:
    inside = f"<code>{_text(text)}</code>" if code else _text(text)
    return f"<{tag} class={'number' if number else 'text'}>{inside}</{tag}>"


def _is_number(value: Cell) -> bool:
    return value is None or isinstance(value, int | float)


def _show(value: Cell) -> str:
    """A figure to four digits, whole numbers whole, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10000 else str(value)


def _text(text: str) -> str:
    return html.escape(text)


def _data_url(image: NDArray[np.uint8] | Path) -> str:
    if isinstance(image, Path):
        kind = {".png": "png", ".svg": "svg+xml", ".jpg": "jpeg", ".gif": "gif"}.get(image.suffix.lower())
        if kind is None:
            raise ValueError(f"{image}: a report holds png, svg, jpg or gif pictures")
        content = image.read_bytes()
    else:
        kind, buffer = "png", io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG", optimize=True)
        content = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
