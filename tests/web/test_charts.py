"""Charts: what is drawn is true to its values, stays in its frame, and carries no markup of names."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from backup.web.charts.bars import Bar, bars, share
from backup.web.charts.lines import HEIGHT, WIDTH, Series, curves, rounded_up
from backup.web.charts.strip import CELL, Night, NightSign, strip
from backup.web.texts import safe
from backup.wording import escape
from tests.support.emulated import REPOSITORY

NAMES = st.text(st.characters(exclude_characters="\ufffe\uffff"), max_size=40)
VALUES = st.floats(0, 1e15, allow_nan=False)
SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawing: str) -> ET.Element:
    """A drawing as XML: it must be well-formed by itself."""
    return ET.fromstring(drawing.replace("<svg", Markup('<svg xmlns="http://www.w3.org/2000/svg"'), 1))


@given(st.lists(st.tuples(st.sampled_from(NightSign), NAMES), max_size=40), NAMES)
def test_a_strip_has_a_mark_for_each_night_and_names_stay_text(
    nights: list[tuple[NightSign, str]], label: str
) -> None:
    told = [(mark, escape(text, kept="\n\t")) for mark, text in nights]
    drawn = parsed(strip([Night(mark, text) for mark, text in nights], label))
    groups = drawn.findall(f"{SVG}g")
    assert len(groups) == len(nights)
    classes = [element.find(f"{SVG}rect").get("class") for element in groups]  # type: ignore[union-attr]
    assert classes == [f"m-{mark}" for mark, _ in told]
    assert [element.findtext(f"{SVG}title") for element in groups] == [text for _, text in told]
    assert {element.tag.removeprefix(SVG) for element in drawn.iter()} <= {
        "svg",
        "g",
        "title",
        "rect",
        "path",
    }


def test_each_mark_has_a_shape_of_its_own() -> None:
    shapes = set()
    for mark in NightSign:
        group = parsed(strip([Night(mark, "")], "")).find(f"{SVG}g")
        assert group is not None
        shapes.add(
            tuple(
                (element.tag, element.get("height"), element.get("d"))
                for element in group
                if element.get("fill-opacity") is None
            )
        )
    assert len(shapes) == len(NightSign)


@given(st.lists(st.lists(st.tuples(st.floats(0, 2e9), VALUES), max_size=12), max_size=8), NAMES)
def test_curves_stay_in_their_frame(points: list[list[tuple[float, float]]], label: str) -> None:
    made = curves([Series(str(number), sorted(points_of)) for number, points_of in enumerate(points)], label)
    drawn = parsed(made.drawing)
    for path in drawn.iter(f"{SVG}path"):
        for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d") or ""):
            assert -0.1 <= float(x) <= WIDTH + 0.1
            assert -0.1 <= float(y) <= HEIGHT + 0.1
    assert (drawn.get("aria-label") or "").split() == str(safe(label)).split()


def test_time_is_drawn_true() -> None:
    made = curves([Series("job", [(0.0, 10.0), (25.0, 20.0), (100.0, 0.0)])], "size")
    way = (
        next(element for element in parsed(made.drawing) if "curve" in (element.get("class") or "")).get("d")
        or ""
    )
    assert made.top == 20
    assert re.findall(r"[ML]([\d.]+) ([\d.]+)", way) == [
        ("0.0", "80.0"),
        ("150.0", "0.0"),
        ("600.0", "160.0"),
    ]


@given(st.floats(0, 1e18))
def test_a_scale_ends_above_its_values_and_not_far(value: float) -> None:
    top = rounded_up(value)
    assert value <= top
    assert top <= max(1, 2.1 * value)


@given(st.lists(st.lists(st.floats(0, 1000), max_size=4), max_size=13))
def test_bars_are_as_high_as_their_values(row: list[list[float]]) -> None:
    top = max([1.0, *(sum(parts) for parts in row)])
    drawn = parsed(bars([Bar(tuple(parts), "told") for parts in row], top, "cost"))
    for group, parts in zip(drawn.findall(f"{SVG}g"), row, strict=True):
        heights = [float(element.get("height") or 0) for element in group.findall(f"{SVG}rect")]
        assert abs(sum(heights) - HEIGHT * sum(parts) / top) < 0.1
        assert all(float(element.get("y") or 0) >= -0.1 for element in group.findall(f"{SVG}rect"))


def test_a_share_is_at_most_the_whole() -> None:
    widths = [element.get("width") for element in parsed(share(3, 2, "dead")).findall(f"{SVG}rect")]
    assert widths == ["100", "100"]
    assert [element.get("width") for element in parsed(share(1, 0, "dead")).findall(f"{SVG}rect")] == [
        "100",
        "0",
    ]


def test_a_night_is_as_wide_as_the_others() -> None:
    drawn = parsed(
        strip(
            [Night(NightSign.GOOD, f"{datetime(2026, 11, day, tzinfo=UTC):%d}") for day in range(1, 31)], "x"
        )
    )
    assert (drawn.get("viewBox") or "").split()[2] == str(30 * CELL - 3)


def test_no_colour_fills_a_curve() -> None:
    """A colour's rule stands later in the sheet, and would win over one of the same weight."""
    sheet = (REPOSITORY / "backup" / "web" / "static" / "page.css").read_text()
    (selector,) = re.findall(r"^([^\n{]*\bcurve\b[^\n{]*?) *\{ fill: none;", sheet, re.MULTILINE)
    assert selector == "path.curve"
