"""Parses a list of servers, for `nightvault ca issue --batch`; pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from backup.errors import UsageError
from backup.pki.subjects import Subject, file_stem

MOST_HOSTS = 10_000


def read_batch(text: str, *, organization: str | None, unit: str | None) -> Sequence[Subject]:
    """Return the subjects in a list: each line is NAME or NAME,UNIT or NAME,UNIT,DNS-NAME…

    Empty lines and lines that begin with # are skipped. `organization` and `unit` are defaults for lines
    without them. `UsageError` has the number of the first wrong line; no certificate is made then.
    """
    found: list[Subject] = []
    stems: dict[str, str] = {}
    for number, subject in _lines(text, organization, unit):
        try:
            subject.name()
            subject.alternative_names()
        except UsageError as error:
            raise UsageError(f"line {number}: {error}", advice=error.advice) from error
        stem = file_stem(subject.common_name).casefold()
        if stem in stems:
            raise UsageError(
                f"line {number}: {subject.common_name!r} would have the same files as {stems[stem]!r}",
                advice="name each server once",
            )
        stems[stem] = subject.common_name
        found.append(subject)
    if not found:
        raise UsageError("the list names no server", advice="write one to a line: NAME,UNIT")
    if len(found) > MOST_HOSTS:
        raise UsageError(f"the list names {len(found)} servers, more than {MOST_HOSTS}")
    return found


def _lines(text: str, organization: str | None, unit: str | None) -> Iterator[tuple[int, Subject]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            (cells,) = csv.reader(io.StringIO(line), strict=True, skipinitialspace=True)
        except (csv.Error, ValueError) as error:
            raise UsageError(f"line {number} is no list of values between commas: {error}") from error
        name, own_unit, *dns = [*(cell.strip() for cell in cells), ""][: max(len(cells), 2)]
        yield (
            number,
            Subject(name, organization, own_unit or unit, [dns_name for dns_name in dns if dns_name]),
        )
