"""Labels for devices: an SVG with a QR code, the code, the name and the cell; and a sheet of them to print on A4."""

import base64
import hashlib
import html
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import segno

WIDTH_MM, HEIGHT_MM = 63.5, 38.1  # of a sheet of 3 × 7 self-adhesive labels (A4), sold everywhere
_QR_MM = 28.0
_QUIET_MM = 3.5  # white around the code, which readers want to be four of its squares wide
_TEXT_AT_MM = _QUIET_MM + _QR_MM + _QUIET_MM
_TEXT_MM = WIDTH_MM - _TEXT_AT_MM - 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What stands on one. `url`: what a phone opens."""

    code: str
    name: str
    kind: str
    cell_code: str
    url: str


def draw_label(label: Label) -> str:
    """One label as an SVG document of 63.5 × 38.1 mm. A long code goes over several lines."""
    code_mm = 4.6 if _width(label.code, 4.6) <= _TEXT_MM else 2.8
    codes = _wrap(label.code, code_mm, 5)
    names = _wrap(label.name, 3.6, 3 if len(codes) == 1 else 1)
    y, texts = 3.0, []
    for rows, size_mm, weight in ((codes, code_mm, 700), (names, 3.6, 400), ([label.kind], 3.6, 400)):
        for row in rows:
            y += size_mm * 1.15
            texts.append(
                f'<text x="{_TEXT_AT_MM}" y="{y:.2f}" font-size="{size_mm}" font-weight="{weight}">{html.escape(row)}</text>'
            )
        y += 1.0
    texts.append(f'<text x="{_TEXT_AT_MM}" y="{HEIGHT_MM - 3.5}" font-size="3">{html.escape(label.cell_code)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_MM}mm" height="{HEIGHT_MM}mm"'
        f' viewBox="0 0 {WIDTH_MM} {HEIGHT_MM}" role="img" aria-label="{html.escape(label.code)}">'
        f'<rect width="{WIDTH_MM}" height="{HEIGHT_MM}" fill="#fff"/>{_draw_qr(label.url)}'
        "<g fill=\"#000\" font-family=\"'Noto Sans SC', 'Microsoft YaHei', 'PingFang SC', sans-serif\">"
        f"{''.join(texts)}</g></svg>"
    )


STYLE = (
    "@page{size:A4;margin:15.1mm 7.2mm}*{box-sizing:border-box}body{margin:0}"
    f"main{{display:grid;grid-template-columns:repeat(3,{WIDTH_MM}mm);column-gap:2.5mm;justify-content:center}}"
    f".label{{height:{HEIGHT_MM}mm;break-inside:avoid;outline:.1mm dashed #bbb}}svg{{display:block}}"
    "@media print{.label{outline:0}}"
)
SHEET_POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy under which a sheet shows as it should, and nothing else does anything."""


def draw_sheet(labels: Sequence[Label], title: str) -> str:
    """A page that prints 21 labels on each A4 sheet; its own style, no script."""
    cells = "".join(f'<div class="label">{draw_label(label)}</div>' for label in labels)
    return (
        '<!doctype html><html lang="zh-CN"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><main>{cells}</main></body></html>"
    )


def _draw_qr(url: str) -> str:
    """The QR code as one path; M restores 15 % that is scratched or dirty."""
    code = segno.make(url, error="m", micro=False)
    size = code.symbol_size(border=0)[0]
    part = io.BytesIO()
    code.save(part, kind="svg", border=0, xmldecl=False, svgns=False, svgclass=None, lineclass=None, omitsize=True)
    body = part.getvalue().decode()
    inner = body[body.index(">") + 1 : body.rindex("</svg>")]
    scale = _QR_MM / size
    return f'<g transform="translate({_QUIET_MM} {(HEIGHT_MM - _QR_MM) / 2}) scale({scale:.5f})">{inner}</g>'


def _width(text: str, size_mm: float) -> float:
    """About how wide a text is, rather too wide: Chinese characters are as wide as high, bold capitals three quarters."""
    return size_mm * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.75 if c.isupper() else 0.6 for c in text)


def _wrap(text: str, size_mm: float, most: int) -> list[str]:
    """`text` in lines that fit, the last one cut with an ellipsis."""
    lines = [""]
    for character in text:
        if _width(lines[-1] + character, size_mm) > _TEXT_MM:
            if len(lines) == most:
                lines[-1] = lines[-1][:-1] + "…"
                break
            lines.append("")
        lines[-1] += character
    return lines
