"""What was measured as tables: each phase with minimum, median and maximum, and the ratio to restic."""

from __future__ import annotations

import os
import platform
import statistics
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from tests.bench.measure import Measured

PHASES = ("first", "no change", "1 % changed", "restore")
_MARKS = "<!-- measured: begin -->", "<!-- measured: end -->"
_LOADED = 0.1  # a row is marked when others took more of the machine than this


class Row(Struct, frozen=True):
    """One measurement."""

    data: str
    phase: str
    peer: str
    turn: int
    measured: Measured


def tables(rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """Markdown: the machine, the versions, and a table for each data set and phase."""
    rounds = {row.data: row.turn + 1 for row in sorted(rows, key=lambda row: row.turn)}
    most = max(rounds.values())
    fewer = "".join(f" (data set {data}: {number})" for data, number in rounds.items() if number < most)
    how = (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {_machine()}. Medians (minimum to maximum) of "
        f"{most} rounds{fewer}, the programs in turn in each round; source in the page cache; `*` marks a "
        "row that ran beside other load. `ratio` is to restic in the same rounds."
    )
    lines = [
        how,
        "",
        *(f"- {name}: {version}" for name, version in versions.items()),
        "",
    ]
    for data in dict.fromkeys(row.data for row in rows):
        lines += [f"### Data set {data}", "", *_header()]
        for phase in PHASES:
            some = [row for row in rows if (row.data, row.phase) == (data, phase)]
            lines += [_line(phase, peer, some) for peer in dict.fromkeys(row.peer for row in some)]
        lines.append("")
    return "\n".join(lines)


def write(page: Path, text: str, *, marks: tuple[str, str] = _MARKS) -> None:
    """Put the tables between the page's marks; the rest of it stays. A page that is not there is made."""
    begin, end = marks
    before, _, rest = (page.read_text() if page.exists() else "").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def how_measured(what: str, remark: str) -> str:
    """When and on which machine, as the beginning of a table."""
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {_machine()}. {what}, the programs in turn in each round: "
        f"medians (minimum to maximum). {remark}."
    )


def _header() -> list[str]:
    return [
        "| phase | program | wall s | ratio | CPU s | ratio | peak MiB | ratio | stored MiB | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]


def _line(phase: str, peer: str, rows: Sequence[Row]) -> str:
    own = [row.measured for row in rows if row.peer == peer]
    against = [row.measured for row in rows if row.peer == "restic"]
    mark = " \\*" if any(measured.others > _LOADED for measured in own) else ""
    cells = [f"{phase}{mark}", peer]
    for name in ("wall", "cpu", "peak", "stored"):
        values = [getattr(measured, name) for measured in own]
        digits = 0 if name in {"peak", "stored"} else 1
        cells.append(spread(values, digits))
        cells.append(_ratio(values, [getattr(measured, name) for measured in against]))
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float], digits: int) -> str:
    """Median, and minimum and maximum where there are some."""
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _ratio(values: Iterable[float], against: Sequence[float]) -> str:
    if not against:
        return "-"
    return f"{statistics.median(values) / statistics.median(against):.2f}"


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB"
    return f"{machine}, Linux {platform.release()}, {_python()}"


def _python() -> str:
    """The interpreter that nightvault runs on: its version, and how it was compiled, which tells in CPU."""
    asked = sysconfig.get_config_var("CONFIG_ARGS") or ""
    flags = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}
    made = [name for name, flag in flags.items() if flag in asked]
    how = f"with {' and '.join(made)}" if made else "without PGO and LTO"
    return f"{platform.python_implementation()} {platform.python_version()} ({how})"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.machine()
