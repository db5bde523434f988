"""Makes SVG elements as text; every attribute and text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from backup.web.texts import safe


def element(name: str, *inside: Markup | str, **attributes: object) -> Markup:
    """Return an element; `class_` is written as class, `aria_label` as aria-label; None is left out."""
    written = Markup("").join(
        Markup(' {}="{}"').format(_named(key), safe(_short(value)))
        for key, value in attributes.items()
        if value is not None
    )
    if not inside:
        return Markup("<{}{}/>").format(name, written)
    body = Markup("").join(escape(safe(child)) for child in inside)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, body)


def drawing(width: float, height: float, parts: Iterable[Markup], *, label: str, class_: str = "") -> Markup:
    """Return an SVG drawing that scales to its container; `label` describes it for screen readers."""
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_=class_ or None,
    )


def _named(key: str) -> str:
    """An attribute's name: those of SVG that have capitals are written so."""
    return {"class_": "class", "viewBox": key, "preserveAspectRatio": key}.get(key, key.replace("_", "-"))


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
