"""Pieces of a web page that needs nothing but itself. Whatever is written into it is escaped."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from PIL import Image

from vitrail.tasks.scores import DETECTION, PANOPTIC, SHARES

IN_PERCENT = {*SHARES, *DETECTION, *PANOPTIC, "ar"}  # columns
STYLE = """
:root { --ink: #1a1a1a; --quiet: #6b6b6b; --pale: #e4e4e4; --right: #0b7285; --wrong: #d9480f; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fafaf8; line-height: 1.5; }
body { font-family: system-ui, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 3rem 2rem 5rem; }
h1 { margin: 0; font-size: 2.3rem; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { margin: 3.2rem 0 0.4rem; font-size: 1.3rem; letter-spacing: -0.01em; }
p { margin: 0.2rem 0 1rem; color: var(--quiet); max-width: 46rem; }
.box { background: white; border: 1px solid var(--pale); border-radius: 10px; }
.scores { display: grid; gap: 0.8rem; margin: 2rem 0 0; padding: 0; list-style: none; }
.scores { grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); }
.scores li { padding: 0.9rem 1.1rem; color: var(--quiet); font-size: 0.8rem; line-height: 1.35; }
.scores b { display: block; margin-bottom: 0.3rem; color: var(--ink); font-size: 0.9rem; font-weight: 600; }
.scores strong { display: block; color: var(--ink); font-size: 1.7rem; font-variant-numeric: tabular-nums; }
.remark { margin: 0.5rem 0 0; max-width: none; font-size: 0.85rem; overflow-wrap: anywhere; }
.scores .best { color: #cfe8ec; background: var(--right); border-color: var(--right); }
.scores .best strong, .scores .best b { color: white; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.35rem 1.4rem; margin: 1.2rem 0 0; }
dl { font-size: 0.95rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
a { color: var(--right); }
pre { margin: 0; padding: 0.9rem 1.1rem; overflow-x: auto; font-size: 0.85rem; line-height: 1.7; }
img.box { display: block; max-width: 100%; }
.drawing { overflow-x: auto; }
.table { max-height: 30rem; overflow: auto; }
table { width: 100%; border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.9rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
th { position: sticky; top: 0; background: white; color: var(--quiet); font-weight: 500; }
th:first-child { min-width: 8rem; }
th.words, td.words { text-align: left; vertical-align: top; white-space: normal; overflow-wrap: break-word; }
table.words { table-layout: fixed; }
td { border-top: 1px solid #f1f1ef; }
.share { background: linear-gradient(to right, #d7ecef var(--part), transparent var(--part)); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 1rem; }
.tiles.wide { grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); }
figure { margin: 0; overflow: hidden; }
figure img { display: block; max-width: 100%; max-height: 20rem; margin: 0 auto; }
.tiles.whole { grid-template-columns: 1fr; }
.tiles.whole img { max-height: 30rem; }
.tiles { align-items: start; }
figcaption { padding: 0.6rem 0.9rem 0.8rem; color: var(--quiet); font-size: 0.85rem; overflow-wrap: anywhere; }
figcaption div:first-child { color: var(--ink); font-weight: 600; }
.right figcaption div:first-child { color: var(--right); }
.wrong figcaption div:first-child { color: var(--wrong); }
footer { margin-top: 4rem; color: var(--quiet); font-size: 0.85rem; }
@media (max-width: 45rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.6rem; }
  .drawing img { max-width: none; }
  .scores { grid-template-columns: 1fr 1fr; }
  .table { max-height: 70vh; }
}
"""


def embedded(kind: str, data: bytes) -> str:
    """Data as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def drawing(data: bytes, inches: float, words: str) -> str:
    """A drawn figure.

    Args:
        data: of the PNG file.
        inches: its width; all figures of a page so have letters of one size.
        words: for whoever cannot see it.
    """
    source = embedded("image/png", data)
    image = f'<img class="box" style="width: {inches * 101:.0f}px" src="{source}" alt="{html.escape(words)}">'
    return f'<div class="drawing">{image}</div>'


def photograph(image: Image.Image, words: str) -> str:
    """A picture, as JPEG: a tenth of the size that PNG would take."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88)
    return f'<img src="{embedded("image/jpeg", buffer.getvalue())}" alt="{html.escape(words)}" loading="lazy">'


def tile(image: Image.Image, lines: Sequence[str], right: bool | None) -> str:
    """A picture with a few words beneath, the first of which says whether the answer is right by its colour."""
    verdict = {True: "right", False: "wrong", None: ""}[right]
    words = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
    return f'<figure class="box {verdict}">{photograph(image, lines[0])}<figcaption>{words}</figcaption></figure>'


def tiles(content: Iterable[str], *, width: Literal["narrow", "wide", "whole"] = "narrow") -> str:
    """Tiles in rows; wide ones are two pictures each, and whole ones fill a row."""
    return f'<div class="tiles {width}">{"".join(content)}</div>'


class Score(NamedTuple):
    """A number as one says it, what it is called, and what that means."""

    value: str
    name: str
    words: str
    decides: bool  # by it one model is better than another


def scores(values: Iterable[Score]) -> str:
    """One box for each score; the one that decides comes first and stands out."""
    boxes = (
        f'<li class="box{" best" if score.decides else ""}"><strong>{html.escape(score.value)}</strong>'
        f"<b>{html.escape(score.name)}</b>{html.escape(score.words)}</li>"
        for score in sorted(values, key=lambda score: not score.decides)
    )
    return f'<ul class="scores">{"".join(boxes)}</ul>'


def remarks(lines: Sequence[str]) -> str:
    """What is to be said of the scores above."""
    return "".join(f'<p class="remark">{html.escape(line)}</p>' for line in lines)


def facts(values: Iterable[tuple[str, str, str]]) -> str:
    """Names and what there is to say of each, which ends with a link to a file where there is one."""
    lines = (
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(words)}{link(address) if address else ''}</dd>"
        for name, words, address in values
    )
    return f"<dl>{''.join(lines)}</dl>"


def link(address: str) -> str:
    """To a file beside the page, by its name."""
    return f'<a href="{html.escape(address)}">{html.escape(address.rpartition("/")[2])}</a>'


def commands(lines: Iterable[str]) -> str:
    """What to type, a line for each."""
    return f'<pre class="box">{html.escape(chr(10).join(lines))}</pre>'


def cell(name: str, value: Any) -> str:
    """One value of a table, of the column with that name; a share of one has a bar behind it, a score is in percent."""
    if isinstance(value, float):
        part = f' class="share" style="--part: {value:.1%}"' if 0 <= value <= 1 else ""
        return f"<td{part}>{100 * value:.1f}</td>" if name in IN_PERCENT else f"<td{part}>{value:.3f}</td>"
    return f"<td{as_words(value)}>{html.escape('' if value is None else str(value))}</td>"


def as_words(value: Any) -> str:
    """How a cell is marked: words stand on the left and are broken into lines, numbers end on the right."""
    return ' class="words"' if isinstance(value, str) else ""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows that all have the same columns, in a box that scrolls when they are many.

    Columns of words alone share the width evenly.
    """
    first = rows[0]
    head = "".join(f"<th{as_words(value)}>{html.escape(name.replace('_', ' '))}</th>" for name, value in first.items())
    body = "".join(f"<tr>{''.join(cell(*one) for one in row.items())}</tr>" for row in rows)
    words = ' class="words"' if all(isinstance(value, str) for value in first.values()) else ""
    return f'<div class="box table"><table{words}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, content: str, words: str = "") -> str:
    """A part of the page under its title."""
    said = f"<p>{html.escape(words)}</p>" if words else ""
    return f"<section><h2>{html.escape(title)}</h2>{said}{content}</section>"


def page(title: str, content: Iterable[str]) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{html.escape(title)}</h1>{''.join(content)}"
        "<footer>Written by vitrail. This page holds everything it shows and loads nothing.</footer>"
        "</main></body></html>\n"
    )
