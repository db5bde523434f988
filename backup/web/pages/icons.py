"""The icons of the page, as SVG in the HTML itself; each has a shape of its own: none needs its colour."""

from __future__ import annotations

from markupsafe import Markup

_STROKED = {
    "good": '<circle cx="8" cy="8" r="6.5"/><path d="m5 8.2 2.1 2.1L11 6"/>',
    "warn": '<path d="M8 1.8 15 14H1z"/><path d="M8 6.2v3.4m0 1.9v.1"/>',
    "bad": '<path d="M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2z"/>'
    '<path d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4"/>',
    "busy": '<path d="M8 1.5A6.5 6.5 0 1 1 1.5 8"/><path d="M8 4.5V8l2.2 1.6"/>',
    "none": '<circle cx="8" cy="8" r="6.5" stroke-dasharray="2.2 1.9"/><path d="M5.5 8h5"/>',
    "paused": '<circle cx="8" cy="8" r="6.5"/><path d="M6.4 5.6v4.8m3.2-4.8v4.8"/>',
    "folder": '<path d="M1.5 12.5v-9h4.4l1.6 2h7v7z"/>',
    "file": '<path d="M3.5 1.5h6l3 3v10h-9z"/><path d="M9.5 1.5v3h3"/>',
    "link": '<path d="M3 13 13 3M6.5 3H13v6.5"/>',
    "special": '<circle cx="8" cy="8" r="5.5"/><circle cx="8" cy="8" r="1.2"/>',
    "fold": '<path d="m6 3.5 4.5 4.5L6 12.5"/>',
    "added": '<path d="M8 3v10M3 8h10"/>',
    "removed": '<path d="M3 8h10"/>',
    "changed": '<path d="M2.5 6c2-3 3.5-3 5.5 0s3.5 3 5.5 0M2.5 11c2-3 3.5-3 5.5 0s3.5 3 5.5 0"/>',
    "brand": '<path d="M13.6 10.2A6.4 6.4 0 1 1 7 1.6a5 5 0 0 0 6.6 8.6z"/>'
    '<path d="M11.2 2.2v2.6m-1.3-1.3h2.6"/>',
    "alert": '<path d="M8 1.8 15 14H1z"/><path d="M8 6.2v3.4m0 1.9v.1"/>',
    "clock": '<circle cx="8" cy="8" r="6.5"/><path d="M8 4.3V8l2.5 1.8"/>',
}


def icon(name: str) -> Markup:
    """An icon that screen readers pass over: a word always stands beside it."""
    return Markup(  # noqa: S704  nothing of it is foreign
        '<svg viewBox="0 0 16 16" aria-hidden="true" focusable="false" fill="none" stroke="currentColor" '
        f'stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">{_STROKED[name]}</svg>'
    )
