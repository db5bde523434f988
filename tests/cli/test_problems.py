"""A cause is told once, however many entries met it, and nothing is left uncounted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backup.cli.render.problems import problem_lines
from backup.model import Problem, ProblemKind

OWNER = "owner: Operation not permitted"


def problems(count: int, detail: str) -> list[Problem]:
    return [Problem(b"%s-%d" % (detail[:1].encode(), n), ProblemKind.NOT_SET, detail) for n in range(count)]


def test_a_million_entries_of_one_cause_are_one_line() -> None:
    assert problem_lines(problems(1_000_000, OWNER)) == [
        f"not-set: {OWNER}: 1,000,000 entries: o-0, o-1, o-2 and 999,997 more"
    ]


def test_few_entries_have_a_line_each() -> None:
    assert problem_lines([*problems(2, OWNER), *problems(1, "times: no")]) == [
        f"not-set: o-0: {OWNER}",
        f"not-set: o-1: {OWNER}",
        "not-set: t-0: times: no",
    ]


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 20))
def test_every_problem_is_counted(sizes: list[int], most: int) -> None:
    every = [problem for place, size in enumerate(sizes) for problem in problems(size, f"cause {place}")]
    lines = problem_lines(every, most=most)
    assert len(lines) <= most + 1
    counted = 0
    for line in lines:
        if line.startswith("…"):
            counted += int(line.split()[2])
        else:
            counted += int(line.split(" entries")[0].rsplit(" ", 1)[1]) if " entries: " in line else 1
    assert counted == len(every)
