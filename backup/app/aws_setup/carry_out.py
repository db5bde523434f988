"""Carries out the steps of a set-up, waits until AWS shows the result, and tries the certificate.

After an interruption at any step, the same command goes on. IAM and Roles Anywhere show a change some seconds
late, sometimes a minute: each change is waited for, and never made a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from backup.app.aws_setup.calls import NotEmptyError
from backup.app.aws_setup.look import VaultSetup
from backup.app.aws_setup.model import (
    UNKNOWN_ANCHOR,
    FoundResources,
    Plan,
    PlannedCall,
    Verb,
    Wanted,
    together,
)
from backup.app.base.vaults import Purpose, credential_source
from backup.config import Config, VaultSettings
from backup.errors import DeniedError, NightvaultError, ThrottledError, VaultError
from backup.protocols import Clock

Planner = Callable[[Wanted, FoundResources], Plan]

MOST_ROUNDS = 400
TRIES = 5
PAUSE = 3.0
"""Seconds before AWS is asked again after a failure that may pass, or for what it does not show yet; longer
after each."""

LOOKS = 6
"""The number of times that is looked for what AWS does not show yet: 63 s."""


def carry_out(
    parts: Sequence[VaultSetup],
    planner: Planner,
    *,
    clock: Clock,
    look: Callable[[], object],
    begin: Callable[[VaultSetup, PlannedCall], object],
    tell: Callable[[PlannedCall], object],
    waits: Callable[[str], object],
) -> None:
    """Carry out the planned steps of each part until none is left, or AWS does not show the result in time.

    After a failure that may pass, the state of AWS is read again: nothing is made twice where an answer was
    lost, and what somebody else made meanwhile stops the set-up. `begin` is called before each step, `tell`
    after it, `look` updates the parts from AWS, `waits` is called with a sentence before a wait.

    `VaultError` if AWS does not show what was made. A change that it does not show stays in the plan.
    """
    work = _Work(parts, planner, look)
    failures = 0
    is_unsure = False
    for _ in range(MOST_ROUNDS):
        planned = work.planned()
        following = next(((part, step) for part, step in planned if step not in work.done), None)
        if not planned and not work.is_ahead:
            return
        try:
            if is_unsure or (following is None and work.is_ahead):
                work.look_again()
                is_unsure = False
            elif following is not None:
                part, step = following
                begin(part, step)
                if work.do(part, step):
                    tell(step)
                failures = 0
            elif work.late == LOOKS:
                _require_made(planned)
                return
            else:
                work.wait(planned, clock, waits)
        except NightvaultError as error:
            failures += 1
            if not error.retryable or failures == TRIES:
                raise
            clock.sleep(PAUSE * failures)
            if not isinstance(error, ThrottledError):  # which was not done, and looking would be more of it
                is_unsure = True
    raise VaultError("the set-up does not come to an end", advice="give --status, and report its answer")


@dataclass(slots=True)
class _Work:
    """The state of a set-up that is being carried out: what was found last, and what was done since."""

    parts: Sequence[VaultSetup]
    planner: Planner
    look: Callable[[], object]
    done: list[PlannedCall] = field(default_factory=list)
    kept: list[tuple[VaultSetup, PlannedCall]] = field(
        default_factory=list
    )  # AWS deletes nothing that is not empty
    anchor_arn: str = UNKNOWN_ANCHOR
    is_ahead: bool = False  # of what was found
    late: int = 0

    def planned(self) -> Sequence[tuple[VaultSetup, PlannedCall]]:
        """Return the steps still to do, by what was read last.

        One that several parts need comes once, with the first.
        """
        plans = [(part, self.planner(part.wanted, part.found)) for part in self.parts]
        if obstacles := together([plan for _, plan in plans]).obstacles:
            raise VaultError("; ".join(obstacles), advice="what was done before stays")
        steps: list[tuple[VaultSetup, PlannedCall]] = []
        for part, plan in plans:
            known = [step for _, step in steps]
            own = [_with_anchor(step, self.anchor_arn) for step in plan.steps]
            steps += [(part, step) for step in own if step not in known]
        return steps

    def do(self, part: VaultSetup, step: PlannedCall) -> bool:
        """Carry out a step. Returns False if AWS refused to delete something because it is not empty."""
        is_kept = False
        try:
            answer = part.calls.call(step.service, step.operation, **step.parameters)
        except NotEmptyError:
            is_kept = True
            self.kept.append((part, step))
        else:
            if step.operation == "create_trust_anchor":
                self.anchor_arn = answer["trustAnchor"]["trustAnchorArn"]
        self.done.append(step)
        self.is_ahead = True
        return not is_kept

    def wait(
        self, planned: Sequence[tuple[VaultSetup, PlannedCall]], clock: Clock, waits: Callable[[str], object]
    ) -> None:
        """Wait, then read the state of AWS again, as it does not show yet what was done."""
        self.late += 1
        if self.late == 1:
            waits(f"waiting: AWS does not show yet what was done: {_names(planned)}")
        clock.sleep(PAUSE * self.late)
        self.look_again()

    def look_again(self) -> None:
        """Read the state of AWS again.

        What Glacier said when a deletion was refused counts more than its daily counts.
        """
        self.look()
        for part, step in self.kept:
            part.found = _not_empty(part.found, step)
        self.is_ahead = False


def _with_anchor(step: PlannedCall, arn: str) -> PlannedCall:
    """A step with the ARN of the trust anchor that was made, where the plan did not know it."""
    known = {
        key: value.replace(UNKNOWN_ANCHOR, arn) if isinstance(value, str) else value
        for key, value in step.parameters.items()
    }
    return replace(step, parameters=known)


def _not_empty(found: FoundResources, step: PlannedCall) -> FoundResources:
    """The findings once AWS said that a bucket or vault is not to be deleted, as it holds something."""
    changed = tuple(
        replace(place, holds=True) if (place.kind, place.name) == (step.kind, step.name) else place
        for place in found.old_places
    )
    if changed != found.old_places:
        return replace(found, old_places=changed)
    return replace(found, place=found.place and replace(found.place, holds=True))


def _require_made(planned: Sequence[tuple[VaultSetup, PlannedCall]]) -> None:
    """Raise `VaultError` if AWS shows nothing of what was made: its ARN is not known then."""
    if made := [(part, step) for part, step in planned if step.verb is Verb.MAKE]:
        raise VaultError(
            f"AWS took {_names(made)}, and does not show it after a minute",
            advice="give the same command again in some minutes: what was made is found by its tag then",
        )


def _names(planned: Sequence[tuple[VaultSetup, PlannedCall]]) -> str:
    return ", ".join(dict.fromkeys(f"{step.kind} {step.name}" for _, step in planned))


PATIENCE = 180.0
"""Seconds after which a refusal is no delay any more: IAM takes some ten, now and then a minute."""

SESSION_PAUSE = 5.0
_VAGUE = "Unable to assume role"


def try_sessions(
    config: Config,
    vault: VaultSettings,
    clock: Clock,
    *,
    arns: Collection[str],
    waits: Callable[[str], object],
) -> None:
    """Get credentials for those roles of the vault that this certificate may assume.

    `DeniedError` for a refusal that does not pass.

    Raises `IdentityError` where the certificate or its key cannot be used on this machine.
    """
    for purpose in Purpose:
        if getattr(vault, purpose.value, None) in arns:
            _try(config, vault, purpose, clock, waits)


def _try(
    config: Config, vault: VaultSettings, purpose: Purpose, clock: Clock, waits: Callable[[str], object]
) -> None:
    until, role = PATIENCE, getattr(vault, purpose.value)
    while True:
        try:
            credential_source(config, vault, purpose, clock).credentials()
        except DeniedError as error:
            if _VAGUE not in str(error):
                raise
            if until <= 0:
                raise DeniedError(
                    f"{error}; it was tried for {PATIENCE:.0f} s, so it is no delay of IAM",
                    advice="compare the role's trust policy with `nightvault setup aws --plan`",
                ) from error
            if until == PATIENCE:
                waits(f"waiting: AWS does not let the certificate into {role} yet")
            clock.sleep(SESSION_PAUSE)
            until -= SESSION_PAUSE
        else:
            return
