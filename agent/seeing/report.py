"""One HTML file that opens from disk with no network: words, table, pictures, video, configuration, versions."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from agent.cli.runs import facts_of, plain
from data.video import VideoFrames

_STYLE = """
:root{--ink:#1f2a33;--soft:#5d6b76;--line:#dfe4e8;--back:#fff;--card:#f6f8f9;--accent:#3b6fb5}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebef;--soft:#9aa7b2;--line:#33404a;--back:#14191d;--card:#1c242a;--accent:#7fb0ef}
img.plot{filter:invert(.9) hue-rotate(180deg)}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}h1{font-size:1.7rem;line-height:1.25;margin:.5rem 0 .2rem}
h2{font-size:1.15rem;margin:2.4rem 0 .6rem}p.lead{color:var(--soft);margin:.2rem 0 1.2rem;font-size:1.05rem}
figure{margin:1rem 0}figcaption{color:var(--soft);font-size:.9rem;margin-top:.35rem}
img,video{max-width:100%;height:auto;border-radius:6px;display:block}img.strip{border-radius:0}
.wide{overflow-x:auto}.wide img{min-width:34rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.93rem}
th,td{text-align:left;padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:600}td.words{white-space:normal;min-width:11rem;overflow-wrap:normal}
td.bar{min-width:7rem}.bar i{display:block;height:.55rem;border-radius:3px;background:var(--accent);print-color-adjust:exact;-webkit-print-color-adjust:exact}
ul{padding-left:1.2rem}li{margin:.2rem 0}
details{background:var(--card);border-radius:6px;padding:.6rem .9rem;margin:.8rem 0}summary{cursor:pointer;color:var(--soft)}
pre{overflow-x:auto;font-size:.82rem;line-height:1.4;margin:.6rem 0 0}
.gallery{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr))}.gallery figure{margin:0}.gallery video,.gallery img{width:100%}
img.paper{display:none}
@media print{@page{margin:14mm}video{display:none}img.paper{display:block}:root{--ink:#000;--soft:#444;--line:#bbb;--back:#fff;--card:#fff;--accent:#3b6fb5}body{font-size:10.5pt}
main{max-width:none;padding:0}img.plot{filter:none;max-width:72%}figure,tr,li{break-inside:avoid}h2{break-after:avoid}.wide img{min-width:0}
.scroll,.wide,pre{overflow:visible}pre{white-space:pre-wrap;font-size:7.5pt}table{font-size:8.5pt}th,td{padding:.2rem .45rem .2rem 0;overflow-wrap:normal}td.words{min-width:0}td.bar{min-width:4rem}
details::details-content{content-visibility:visible;display:block;height:auto}}
"""
FITS_A_PHONE_PX = 800  # pictures up to this width stay legible when they are squeezed
LONG = 16  # letters; a column with more in a cell is broken into lines
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4", ".svg": "image/svg+xml"}


@dataclass
class Report:
    """Built from the top down, then written."""

    title: str
    lead: str = ""
    _parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def lines(self, lines: Sequence[str]) -> None:
        self._parts.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>")

    def picture(self, path: Path, caption: str = "", *, plot: bool = True) -> None:
        """`plot`: a drawing on white, turned dark with the page; pictures and maps of colours are left as they are.

        What is wide is not squeezed on a phone but moved sideways.
        """
        kind = ' class="plot"' if plot else ""
        image = f'<img{kind} src="{_embedded(path)}" alt="{html.escape(caption or path.stem)}">'
        self._figure(f'<div class="wide">{image}</div>' if _is_wide(path) else image, caption)

    def video(self, path: Path, caption: str = "") -> None:
        self._figure(_film(path), caption)

    def gallery(self, videos: Sequence[tuple[Path, str]]) -> None:
        cells = [
            f"<figure>{_film(path)}<figcaption>{html.escape(caption)}</figcaption></figure>"
            for path, caption in videos
        ]
        self._parts.append('<div class="gallery">' + "".join(cells) + "</div>")

    def table(self, rows: Sequence[Mapping[str, Any]], *, bar: str | None = None) -> None:
        """`bar`: a column of shares 0 .. 1, drawn as bars beside their numbers."""
        if not rows:
            return
        names = list(rows[0])
        wordy = {n for n in names if n != bar and any(len(str(row[n])) > LONG for row in rows)}
        head = "".join(f"<th>{html.escape(n)}</th>" for n in names)
        body = ""
        for row in rows:
            cells = ""
            for name in names:
                if name == bar:
                    cells += (
                        f'<td class="bar">{row[name]:.0%}<i style="width:{100 * row[name]:.0f}%"></i></td>'
                    )
                else:
                    kind = ' class="words"' if name in wordy else ""
                    cells += f"<td{kind}>{html.escape(str(row[name]))}</td>"
            body += f"<tr>{cells}</tr>"
        self._parts.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def details(self, title: str, content: Any) -> None:
        """Folded away until it is asked for: text as it is; what else with one line a name, numbers to five figures."""
        text = content if isinstance(content, str) else _lines(_short(plain(content)))
        self._parts.append(
            f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
        )

    def made_with(self, configuration: Any) -> None:
        """What it was asked for and what it ran with, so that it can be done again."""
        facts = facts_of(configuration, [])
        self.details("Configuration", _lines(plain(configuration)))
        self.details("Versions", _lines({k: facts[k] for k in ("started", "commit", "versions", "hardware")}))

    def write(self, path: Path) -> Path:
        lead = f'<p class="lead">{html.escape(self.lead)}</p>' if self.lead else ""
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<meta name="color-scheme" content="light dark"><title>{html.escape(self.title)}</title><style>{_STYLE}</style></head>'
            f"<body><main><h1>{html.escape(self.title)}</h1>{lead}{''.join(self._parts)}</main></body></html>"
        )
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
        return path

    def _figure(self, inner: str, caption: str) -> None:
        note = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure>{inner}{note}</figure>")


def _lines(content: Any) -> str:
    """A list of numbers or words stays on one line."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def _short(content: Any) -> Any:
    if isinstance(content, float):
        return float(f"{content:.5g}")
    if isinstance(content, dict):
        return {key: _short(value) for key, value in content.items()}
    return [_short(value) for value in content] if isinstance(content, list) else content


def _is_wide(path: Path) -> bool:
    if path.suffix == ".svg":
        return False
    with Image.open(path) as opened:
        return opened.width > max(1.3 * opened.height, FITS_A_PHONE_PX)


def _film(path: Path) -> str:
    """A video; until it is played, and on paper, which shows none, its last frame."""
    frames = VideoFrames(path)
    last = io.BytesIO()
    Image.fromarray(frames.read([len(frames) - 1])[0]).save(last, format="JPEG", quality=85)
    still = f"data:image/jpeg;base64,{base64.b64encode(last.getvalue()).decode()}"
    return (
        f'<video controls loop muted playsinline poster="{still}" src="{_embedded(path)}"></video>'
        f'<img class="paper" src="{still}" alt="the last frame of the film">'
    )


def _embedded(path: Path) -> str:
    kind = _KINDS.get(path.suffix)
    if kind is None:
        raise ValueError(f"{path}: a report can hold {', '.join(_KINDS)}")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
