"""Small pieces of HTML that every section of the report is built from."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable

from PIL import Image

from trainer.report.style import STYLE


def text(value: object) -> str:
    """Escaped for a page or an attribute."""
    return html.escape(str(value), quote=True)


def document(title: str, body: str, *, reload_s: int | None = None) -> str:
    """A whole page; `body` is HTML. It loads itself again after `reload_s` seconds, if given."""
    reload = "" if reload_s is None else f'<meta http-equiv="refresh" content="{reload_s}">'
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{reload}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A titled part of the page; empty if there are no parts. `note` is plain text."""
    if not any(parts):
        return ""
    note = f'<p class="note">{text(note)}</p>' if note else ""
    return f"<section><h2>{text(title)}</h2>{''.join(parts)}{note}</section>"


def folded(title: str, *parts: str) -> str:
    """Sections that are shown on a click."""
    inner = "".join(parts)
    return f'<details class="part"><summary>{text(title)}</summary>{inner}</details>'


def table(head: str, rows: Iterable[str], *, kind: str) -> str:
    """A table that scrolls sideways if the page is too narrow."""
    inner = f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="{kind}">{inner}</table></div>'


def group_row(title: str, *, columns: int, kind: str = "group") -> str:
    """A row that heads those below it. `title` is HTML."""
    return f'<tr class="{kind}"><th scope="rowgroup" colspan="{columns}">{title}</th></tr>'


def pairs(values: dict[str, str]) -> str:
    """Names and values, one pair per line."""
    rows = [
        f"<tr><th scope='row'>{text(name)}</th><td>{text(value)}</td></tr>"
        for name, value in values.items()
    ]
    return f'<table class="pair">{"".join(rows)}</table>'


def picture(data: bytes, kind: str, label: str) -> str:
    """A picture inside the page; `kind` is "png", "jpeg" or "svg+xml"."""
    content = base64.b64encode(data).decode()
    return f'<img src="data:image/{kind};base64,{content}" alt="{text(label)}">'


def crop(sheet: Image.Image, box: tuple[int, int, int, int], label: str) -> str:
    """A part of a larger picture, as JPEG."""
    buffer = io.BytesIO()
    sheet.crop(box).save(buffer, format="JPEG", quality=90)
    return picture(buffer.getvalue(), "jpeg", label)
