"""The files that are chosen: never proven ones first, then the oldest proof, no more than the sample."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backup.driller.sample import FileCandidate, Sample, choose_files
from backup.model import JobName

CANDIDATES = st.lists(
    st.tuples(st.sampled_from([0, 0, 5, 7, 9]), st.integers(0, 40), st.floats(0, 1)), max_size=25
).map(
    lambda rows: [
        FileCandidate(at, lot, number, size, JobName("job"), b"/%d" % number)
        for number, (at, size, lot) in enumerate(rows)
    ]
)


@given(CANDIDATES, st.integers(1, 30))
def test_so_many_files_never_proven_first(candidates: list[FileCandidate], count: int) -> None:
    chosen = choose_files(iter(candidates), Sample(files=count))
    assert len(chosen) == min(count, len(candidates))
    others = [candidate for candidate in candidates if candidate not in chosen]
    never = [candidate for candidate in candidates if not candidate.proven_at]
    if any(candidate.proven_at for candidate in chosen):
        assert set(never) <= set(chosen), "nothing is proven again while something never was"
    assert all(candidate.proven_at <= other.proven_at for candidate in chosen for other in others)


@given(CANDIDATES, st.integers(0, 60))
def test_files_of_so_many_bytes(candidates: list[FileCandidate], budget: int) -> None:
    chosen = choose_files(iter(candidates), Sample(bytes=budget))
    fitting = sorted(candidate for candidate in candidates if candidate.size <= budget)
    if not fitting:
        assert chosen == sorted(candidates)[:1], "one is taken if there is any"
        return
    expected: list[FileCandidate] = []
    for candidate in fitting:
        if sum(file.size for file in expected) + candidate.size > budget:
            break
        expected.append(candidate)
    assert chosen == expected


@given(CANDIDATES, st.integers(0, 40))
def test_none_that_is_larger(candidates: list[FileCandidate], largest: int) -> None:
    for sample in (Sample(files=5, largest=largest), Sample(bytes=50, largest=largest)):
        chosen = choose_files(candidates, sample)
        assert all(candidate.size <= largest for candidate in chosen)
        assert bool(chosen) == any(candidate.size <= largest for candidate in candidates)


@given(st.integers(1, 12), st.integers(1, 5))
def test_in_time_everything_is_proven(count: int, of_each: int) -> None:
    """Whatever the lots are, each file is proven once before any is proven twice."""
    proven = dict.fromkeys(range(count), 0)
    done: list[int] = []
    for night in range(1, -(-count // of_each) + 1):
        candidates = [
            FileCandidate(at, (number * 7919 + night) % 13 / 13, number, 1, JobName("job"), b"")
            for number, at in proven.items()
        ]
        for candidate in choose_files(candidates, Sample(files=of_each)):
            done.append(candidate.number)
            proven[candidate.number] = night
    assert set(done[:count]) == set(range(count))
