"""A drawing in the colours of a light or a dark page: shapes in, SVG out."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from msgspec import Struct

FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


class Theme(Struct, frozen=True):
    """The colours of a page."""

    name: str
    ink: str
    faint: str
    ground: str
    fills: dict[str, str]


LIGHT = Theme(
    "light",
    "#1f2933",
    "#7b8794",
    "#ffffff",
    {"plain": "#f5f7fa", "server": "#e3f2ee", "vault": "#e2ecf7", "key": "#fbf0d9", "stop": "#f9e1de"},
)
DARK = Theme(
    "dark",
    "#e6eaee",
    "#94a1ae",
    "#1e2129",
    {"plain": "#262d36", "server": "#1f3b36", "vault": "#1f3148", "key": "#473a1c", "stop": "#4a2723"},
)


@dataclass
class Drawing:
    """A picture: shapes are added from the back to the front."""

    theme: Theme
    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def box(self, x: int, y: int, w: int, h: int, title: str, *lines: str, fill: str = "plain") -> None:
        """A box with a title and lines of text."""
        for line in (title, *lines):
            assert 6.7 * len(line) <= w - 14, f"{line!r} is wider than its box"
        colour = self.theme.fills[fill]
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="7" fill="{colour}" '
            f'stroke="{self.theme.faint}"/>'
        )
        self.text(x + 12, y + 22, title, bold=True)
        for number, line in enumerate(lines):
            self.text(x + 12, y + 43 + 19 * number, line)

    def text(
        self,
        x: int,
        y: int,
        text: str,
        *,
        bold: bool = False,
        faint: bool = False,
        middle: bool = False,
        end: bool = False,
    ) -> None:
        """A line of text."""
        colour = self.theme.faint if faint else self.theme.ink
        anchor = "middle" if middle else "end" if end else "start"
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[int, int], dashed: bool = False) -> None:
        """A line through points, with a head at its end."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{self.theme.ink}" stroke-width="1.4"{dash} '
            'marker-end="url(#head)"/>'
        )

    def line(self, x1: int, y1: int, x2: int, y2: int) -> None:
        """A thin dashed line."""
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{self.theme.faint}" '
            'stroke-dasharray="3 3"/>'
        )

    def bar(self, x: int, y: int, w: int, h: int, *, fill: str) -> None:
        """A bar of a chart."""
        colour = self.theme.fills[fill]
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{colour}" stroke="{self.theme.faint}"/>'
        )

    def curve(self, *points: tuple[int, int], style: int) -> None:
        """A line of a chart; styles differ also where colours cannot be told apart."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ("", ' stroke-dasharray="7 4"', ' stroke-dasharray="2 3"')[style]
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{self.theme.ink}" stroke-width="1.8"{dash}/>'
        )

    def svg(self) -> str:
        """The file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="{FONT}" font-size="12" role="img">\n'
            f"<title>{escape(self.title)}</title>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{self.theme.ink}"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" rx="8" fill="{self.theme.ground}"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )
