"""Does the steps of a plan, one after another, so that a cut at any of them is made good by the next try."""

from __future__ import annotations

from collections.abc import Callable

from backup.app.aws_setup.absorb import after, not_empty
from backup.app.aws_setup.calls import AwsCalls, NotEmptyError
from backup.app.aws_setup.model import Found, Plan, Step, Wanted
from backup.errors import NightvaultError, ThrottledError, VaultError
from backup.protocols import Clock

Planner = Callable[[Wanted, Found], Plan]

MOST_STEPS = 200
TRIES = 5
PAUSE = 3.0
"""Seconds before AWS is asked again after a failure that may pass; longer after each."""


def carry_out(
    calls: AwsCalls,
    wanted: Wanted,
    found: Found,
    planner: Planner,
    *,
    clock: Clock,
    look_again: Callable[[], Found],
    begin: Callable[[Step], object],
    tell: Callable[[Step], object],
) -> Found:
    """Do the first step of the plan until there is none; what is there then.

    After a failure that may pass, it is looked again what is there: nothing is made twice where an answer was
    lost, and what somebody else made meanwhile stops it. `begin` is called before each step, `tell` after it.
    """
    failures = 0
    for _ in range(MOST_STEPS):
        plan = planner(wanted, found)
        if plan.obstacles:
            raise VaultError("; ".join(plan.obstacles), advice="what was done before stays")
        if not plan.steps:
            return found
        step = plan.steps[0]
        begin(step)
        try:
            answer = calls.call(step.service, step.operation, **step.parameters)
        except NotEmptyError:
            found = not_empty(found, step)
        except NightvaultError as error:
            failures += 1
            if not error.retryable or failures == TRIES:
                raise
            clock.sleep(PAUSE * failures)
            if not isinstance(error, ThrottledError):  # which was not done, and looking would be more of it
                found = look_again()
        else:
            failures = 0
            found = after(found, step, answer)
            tell(step)
    raise VaultError("the set-up does not come to an end", advice="give --status, and report its answer")
