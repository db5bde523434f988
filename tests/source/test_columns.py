"""Statuses as columns: what went in comes out, and runs of small files are those that each is one of."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.source.scanned import StatusColumns
from backup.source.small import LARGEST, is_small, small_runs

FIELDS = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "mtime_ns", "ctime_ns", "blocks", "rdev")
UNSIGNED = {"ino", "dev", "rdev"}


def status(**told: int) -> os.stat_result:
    """A status with these fields."""
    first = [told.get(name, 0) for name in ("mode", "ino", "dev", "nlink", "uid", "gid", "size")]
    named = {f"st_{name}": told.get(name, 0) for name in ("mtime_ns", "ctime_ns", "blocks", "rdev")}
    return os.stat_result((*first, 0, 0, 0), named)


def values(found: os.stat_result) -> dict[str, int]:
    """Its fields."""
    return {name: getattr(found, f"st_{name}") for name in FIELDS}


any_status = st.builds(
    status,
    **{
        name: st.integers(0, 2**64 - 1) if name in UNSIGNED else st.integers(-(2**63), 2**63 - 1)
        for name in FIELDS
    },
)
any_names = st.binary(min_size=1, max_size=255)

# Near to all borders of what is small.
nearly_small = st.builds(
    status,
    mode=st.sampled_from([0o100644, 0o100644, 0o100600, 0o040755, 0o120777]),
    nlink=st.sampled_from([1, 1, 1, 2]),
    size=st.sampled_from([0, 1, 512, 513, LARGEST, LARGEST + 1]),
    blocks=st.sampled_from([0, 1, 2, 2**20]),
    ino=st.sampled_from([1, 2**63 - 1, 2**63]),
    mtime_ns=st.sampled_from([-1, 0, 2**63 - 1]),
    ctime_ns=st.sampled_from([-1, 0, 2**63 - 1]),
)
small = st.builds(
    status, mode=st.just(0o100644), nlink=st.just(1), size=st.integers(0, LARGEST), blocks=st.just(2**20)
)


@given(st.lists(st.tuples(any_names, any_status)))
def test_what_went_in_comes_out(entries: list[tuple[bytes, os.stat_result]]) -> None:
    names, statuses = [name for name, _ in entries], [found for _, found in entries]
    made = StatusColumns.of(names, statuses)
    sent = StatusColumns.from_bytes(names, made.numbers())
    one_by_one, in_two = StatusColumns.new(), StatusColumns.new()
    for name, found in entries:
        one_by_one.add(name, found)
    middle = len(entries) // 2
    in_two.add_some(made, 0, middle)
    in_two.add_some(made, middle, len(entries))
    for columns in (made, sent, one_by_one, in_two):
        assert columns.names == names
        assert [values(columns.status(at)) for at in range(len(names))] == list(map(values, statuses))


def test_a_real_status(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some")
    found = os.stat(tmp_path / "file")
    columns = StatusColumns.of([b"file"], [found])
    assert values(columns.status(0)) == values(found)
    assert columns.sizes.tolist() == [4]


@pytest.mark.parametrize("field", ["mtime_ns", "ctime_ns"])
def test_a_time_that_fits_no_64_bits_is_refused(field: str) -> None:
    with pytest.raises(OverflowError):
        StatusColumns.of([b"far"], [status(**{field: 2**63})])


@pytest.mark.parametrize("cut", [-8, -1, 1, 8])
def test_numbers_of_another_length_are_refused(cut: int) -> None:
    numbers = StatusColumns.of([b"one", b"two"], [status(), status()]).numbers()
    wrong = numbers[:cut] if cut < 0 else numbers + bytes(cut)
    with pytest.raises(ValueError, match="do not fit the number of names"):
        StatusColumns.from_bytes([b"one", b"two"], wrong)


@given(st.lists(nearly_small | small, max_size=20))
def test_runs_of_small_files(statuses: list[os.stat_result]) -> None:
    columns = StatusColumns.of([b"name"] * len(statuses), statuses)
    runs = list(small_runs(columns))
    told = [are_small for are_small, run in runs for _ in run]
    assert [at for _, run in runs for at in run] == list(range(len(statuses)))
    assert told == [found.st_mode & 0o170000 == 0o100000 and is_small(found) for found in statuses]
    assert all(run[0] != other[0] for run, other in pairwise(runs)), "runs are whole"
