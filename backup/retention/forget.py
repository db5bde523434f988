"""Plans a `forget` of one job: snapshots that are kept, forgotten or refused, each with its reasons; pure.

    plan = plan_forget(snapshots, decisions, read_by_restores={3})     # by the job's policy
    plan = plan_chosen(snapshots, chosen={4, 7}, read_by_restores={3})  # by name

Whatever a policy or a user says, these stay: a snapshot that an open restore reads, one that is pinned, and
the job's last whole snapshot (the newest one if none is whole); all of them while the job waits for an answer
to a source that lost nearly everything; and, of a policy, those of which a copy is still to be made, and all
of them while the job leaves out all of a source. If a policy would forget such a snapshot, it is kept with
that reason; if a user named it, it is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from backup.retention.history import Candidate
from backup.retention.policy import Decision

WAITS = "nothing is forgotten before somebody has looked at what a source lost"
LEFT_OUT = "the job leaves out all of a source, and only older snapshots still have its files"
READ = "an open restore reads it"
PINNED = "it is pinned"
UNCOPIED = "vault {} is still to get a copy of it"
LAST_WHOLE = "the last whole snapshot: always kept"
LAST = "the last snapshot: always kept"
NAMED = "named to be forgotten"
NOT_NAMED = "not named"
_NOBODY: Mapping[int, str] = {}


class RefusedSnapshot(Struct, frozen=True):
    """A snapshot that the user named and that is not forgotten, with the reason."""

    number: int
    reason: str


class ForgetPlan(Struct, frozen=True):
    """A job's snapshots that are kept and forgotten, in the order of their numbers, and those refused."""

    stays: tuple[Decision, ...]
    goes: tuple[Decision, ...]
    refused: tuple[RefusedSnapshot, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the snapshots to forget."""
        return [decision.number for decision in self.goes]


def plan_forget(
    candidates: Iterable[Candidate],
    decisions: Sequence[Decision],
    *,
    read_by_restores: Collection[int] = (),
    wanted: Mapping[int, str] = _NOBODY,
    waits: bool = False,
    leaves_out: bool = False,
) -> ForgetPlan:
    """The plan by a policy's decisions on these snapshots, none of which is forgotten yet.

    `wanted`: those of which another vault is still to get a copy, with that vault. No snapshot is forgotten
    if the job `waits` for an answer, or excludes all of a source (`leaves_out`).
    """
    held = WAITS if waits else LEFT_OUT if leaves_out else ""
    every = {candidate.number: candidate for candidate in candidates}
    kept = {decision.number: decision.reasons for decision in decisions if decision.is_kept}
    for number in every.keys() - kept.keys():
        protected = held or _protected(every[number], read_by_restores)
        if not protected and number in wanted:
            protected = UNCOPIED.format(wanted[number])
        if protected:
            kept[number] = (protected,)
    last = _last(every.values(), kept)
    if last is not None:
        kept[last.number] = (LAST_WHOLE if last.is_whole else LAST,)
    stays = tuple(Decision(number, True, kept[number]) for number in sorted(kept))
    return ForgetPlan(stays, tuple(decision for decision in decisions if decision.number not in kept))


def plan_chosen(
    candidates: Iterable[Candidate],
    chosen: Collection[int],
    *,
    read_by_restores: Collection[int] = (),
    waits: bool = False,
) -> ForgetPlan:
    """The plan for snapshots that a user named, whatever the policy says."""
    every = {candidate.number: candidate for candidate in candidates}
    named = sorted(every.keys() & set(chosen))
    refused = {
        number: reason
        for number in named
        if (reason := WAITS if waits else _protected(every[number], read_by_restores))
    }
    kept = (every.keys() - set(named)) | refused.keys()
    last = _last(every.values(), kept)
    if last is not None:
        refused[last.number] = (
            "it is the job's last whole snapshot" if last.is_whole else "it is the job's last"
        )
    goes = tuple(Decision(number, False, (NAMED,)) for number in named if number not in refused)
    stays = tuple(
        Decision(number, True, (refused.get(number, NOT_NAMED),))
        for number in sorted(every)
        if number not in {decision.number for decision in goes}
    )
    return ForgetPlan(
        stays, goes, tuple(RefusedSnapshot(number, refused[number]) for number in sorted(refused))
    )


def _protected(candidate: Candidate, read_by_restores: Collection[int]) -> str:
    """Why a snapshot stays whatever is asked for; empty for none."""
    if candidate.number in read_by_restores:
        return READ
    return PINNED if candidate.is_pinned else ""


def _last(every: Collection[Candidate], kept: Collection[int]) -> Candidate | None:
    """The snapshot that has to stay besides those that are kept; None if they suffice.

    They do if one of them is whole, or if no snapshot is whole and any is kept.
    """
    whole = [candidate for candidate in every if candidate.is_whole]
    among = whole or list(every)
    if not among or any(candidate.number in kept for candidate in among):
        return None
    return max(among, key=lambda candidate: candidate.number)
