"""The page of archives and costs: bytes stored by month and job, dead bytes, checks and drills."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.web.charts.bars import Bar, bars
from backup.web.charts.lines import COLOURS, rounded_up
from backup.web.context import context_of
from backup.web.pages.frame import answered, framed
from backup.web.pages.html import texts
from backup.web.texts import Texts
from backup.web.views.money import money
from backup.web.views.values.archives import MoneyPage
from backup.wording import size

_MONTHS = 12


class Months(Struct, frozen=True):
    """The chart of bytes stored in each month."""

    drawn: Markup
    top: int
    names: Sequence[str]
    labels: Sequence[str]


def months(it: MoneyPage, said: Texts) -> Months | None:
    """Return the chart of the last twelve months by job; jobs beyond the number of colours are one part."""
    if not it.months:
        return None
    labels = _until(max(month.month for month in it.months))
    by_job: dict[str, dict[str, int]] = {}
    for line in it.months:
        sums = by_job.setdefault(str(line.job or said.say("no job")), {})
        sums[line.month] = sums.get(line.month, 0) + line.bytes
    names = sorted(by_job, key=lambda name: -sum(by_job[name].values()))
    shown = names if len(names) <= COLOURS else names[: COLOURS - 1]
    row = []
    for month in labels:
        parts = [by_job[name].get(month, 0) for name in shown]
        if len(shown) < len(names):
            parts.append(sum(by_job[name].get(month, 0) for name in names[len(shown) :]))
        told = ", ".join(f"{name} {size(part)}" for name, part in zip(shown, parts, strict=False) if part)
        row.append(Bar(tuple(float(part) for part in parts), f"{month}: {told}"))
    top = rounded_up(max(sum(bar.parts) for bar in row))
    keys = shown if len(shown) == len(names) else [*shown, said.say("other jobs")]
    label = said.say("Bytes stored in each month; the table below has the figures")
    return Months(bars(row, top, label), int(top), keys, [month[2:] for month in labels])


def _until(newest: str) -> list[str]:
    """The twelve months that end with one such as 2026-11: also those in which nothing was stored."""
    year, month = map(int, newest.split("-"))
    last = 12 * year + month - 1
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(last - _MONTHS + 1, last + 1)]


@answered
async def show(request: Request) -> Response:
    """Show the page of archives and costs."""
    context = context_of(request)
    found = await context.reading.view(money, context.config, context.clock.now())
    return await framed(request, "archives.html", here="archives", it=found, months=months(found, texts()))


ARCHIVES = (Route("/archives", show, name="archives"),)
