"""Every page with everything that it can show, from believable values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from backup.kinds import Outcome, RunKind
from backup.model import JobName
from backup.web.pages import browse, changes, nights, runs, search, versions
from backup.web.pages.archives import months
from backup.web.pages.entries import Kind, Name
from backup.web.pages.html import Renderer
from backup.web.pages.overview import shown as glance
from backup.web.pages.quote import hours, tier_word
from backup.web.pages.runs import report_rows
from backup.web.pages.schedule import shown as fortnight
from backup.web.texts import Texts
from tests.web.believable import (
    NOW,
    entry,
    places,
    run_line,
    snapshot,
    steps,
    the_overview,
    the_quote,
    the_run,
    version_line,
)
from tests.web.believable_plans import the_money, the_schedule

ENGLISH = Texts("en")
ADA = SimpleNamespace(name="ada", role="operator")


class Shown(Struct, frozen=True):
    """A page: its template and what it is given."""

    template: str
    here: str
    values: Mapping[str, Any]


def all_pages(name: str = "www") -> dict[str, Shown]:
    """Every page with everything that it can show; `name` stands wherever a foreign name can."""
    folder = f"/srv/{name}".encode("utf-8", "surrogateescape")
    newer, older = snapshot("www", 30, name), snapshot("www", 29, name)
    the_run_page = runs.RunPage(
        [
            *(run_line(430 - n, list(Outcome)[n % 5], name) for n in range(12)),
            run_line(400, Outcome.DONE, name, RunKind.CHECK),
        ],
        JobName("db"),
        None,
        None,
        False,
        399,
    )
    differing = [
        changes.ChangeLine(
            Name(folder + b"/%d" % n),
            change,
            Kind.FILE,
            ["content", "times"],
            None if change == "added" else 5_000 * n,
            None if change == "removed" else 7_000 * n,
            NOW,
        )
        for n, change in enumerate([*changes.Change, *changes.Change], 1)
    ]
    newest = [
        SimpleNamespace(name=job, newest_snapshot=newer.id, last_good=NOW, files=9, bytes=10**9, snapshots=30)
        for job in (name, "mail")
    ]
    hit = search.Hit(JobName("www"), Name(folder + b"/x"), Kind.FILE, 4_000, NOW, newer.id, NOW, True, 3)
    detail, failed = the_run(name, failed=False), the_run(name, failed=True)
    forms = {"jobs": [name, "db"], "kinds": list(RunKind), "outcomes": list(Outcome)}
    return {
        "overview": Shown("overview.html", "overview", glance(the_overview(name, well=True), ENGLISH)),
        "overview-bad": Shown("overview.html", "overview", glance(the_overview(name, well=False), ENGLISH)),
        "help": Shown("help.html", "overview", {}),
        "runs": Shown("runs.html", "runs", {"it": the_run_page, **forms}),
        "run": Shown("run.html", "runs", {"it": detail, "report": list(report_rows(detail.report))}),
        "run-failed": Shown("run.html", "runs", {"it": failed, "report": list(report_rows(failed.report))}),
        "nights": Shown(
            "nights.html",
            "nights",
            {
                "it": nights.SnapshotPage(
                    JobName("www"),
                    [JobName("www"), JobName(name + "2")],
                    [snapshot("www", n, name) for n in range(30, 16, -1)],
                    False,
                    16,
                    has_forgotten=True,
                    shows_forgotten=False,
                )
            },
        ),
        "changes": Shown(
            "changes.html",
            "nights",
            {
                "it": changes.ChangePage(
                    older,
                    newer,
                    Name(folder),
                    changes.ChangeCounts(812, 14, 90, 10**9, 10**7, True),
                    differing,
                    ["thirty times as many files as usual were new"],
                    False,
                    "next",
                    older.id,
                    None,
                )
            },
        ),
        "browse-start": Shown("browse_start.html", "browse", {"jobs": newest}),
        "browse": Shown(
            "browse.html",
            "browse",
            {
                "it": browse.DirectoryPage(
                    newer,
                    Name(folder),
                    steps(name),
                    None,
                    [entry(name, n, folder) for n in range(18)],
                    200_000,
                    False,
                    "next",
                    places(),
                    older.id,
                    older.id,
                    [Name(folder), Name(b"/home")],
                )
            },
        ),
        "search": Shown(
            "search.html",
            "search",
            {"jobs": [name], "it": search.SearchPage(name, None, [], [hit] * 6, False, "next", True)},
        ),
        "versions": Shown(
            "versions.html",
            "browse",
            {
                "it": versions.VersionPage(
                    JobName("www"),
                    Name(folder + b"/x"),
                    steps(name),
                    [version_line(name, n, folder) for n in range(4)],
                    True,
                    True,
                )
            },
        ),
        "quote": Shown(
            "quote.html",
            "browse",
            {
                "it": the_quote(name),
                "tier_word": lambda tier: tier_word(tier, ENGLISH),
                "hours": lambda tier: hours(tier, ENGLISH),
            },
        ),
        "archives": Shown(
            "archives.html", "archives", {"it": the_money(name), "months": months(the_money(name), ENGLISH)}
        ),
        "schedule": Shown(
            "schedule.html",
            "schedule",
            {
                **fortnight(the_schedule(name), ENGLISH),
                "told": f"A backup of {name} was asked for.",
                "may_operate": True,
            },
        ),
        "problem": Shown(
            "problem.html", "", {"title": "This page is not there", "sentence": name, "advice": name}
        ),
        "again": Shown("login.html", "", {"next": "/schedule", "name": name}),
    }


def strangers(name: str = "ada") -> dict[str, Shown]:
    """The pages for those who are not logged in."""
    return {
        "login": Shown(
            "login.html", "", {"next": "/", "name": name, "told": "the name or the password is wrong"}
        ),
        "welcome": Shown("welcome.html", "", {"link": name}),
    }


@cache
def renderer() -> Renderer:
    """The templates."""
    return Renderer(Texts("en"))


def html_of(shown: Shown, *, stale: bool = False, known: bool = True) -> str:
    """A page as a browser gets it."""
    return renderer().html(
        shown.template,
        NOW,
        user=ADA if known else None,
        here=shown.here,
        live=not stale,
        stale=stale,
        heard_at=NOW,
        read_at=NOW,
        seen="",
        **shown.values,
    )
