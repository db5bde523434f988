"""Does the steps of a plan, one after another, so that a cut at any of them is made good by the next try."""

from __future__ import annotations

from collections.abc import Callable

from backup.app.aws_setup.absorb import after
from backup.app.aws_setup.calls import AwsCalls
from backup.app.aws_setup.look import look
from backup.app.aws_setup.model import Found, Plan, Step, Wanted
from backup.errors import NightvaultError, VaultError
from backup.protocols import Clock

Planner = Callable[[Wanted, Found], Plan]

MOST_STEPS = 200
TRIES = 5
PAUSE = 3.0
"""Seconds before AWS is asked again after a failure that may pass."""


def carry_out(
    calls: AwsCalls,
    wanted: Wanted,
    found: Found,
    planner: Planner,
    *,
    clock: Clock,
    begin: Callable[[Step], object],
    tell: Callable[[Step], object],
) -> Found:
    """Do the first step of the plan until there is none; what is there then.

    After a failure that may pass, it is looked again what is there: nothing is made twice where an answer was
    lost. `begin` is called before each step, `tell` once it is done.
    """
    failures = 0
    for _ in range(MOST_STEPS):
        steps = planner(wanted, found).steps
        if not steps:
            return found
        begin(steps[0])
        try:
            answer = calls.call(steps[0].service, steps[0].operation, **steps[0].parameters)
        except NightvaultError as error:
            failures += 1
            if not error.retryable or failures == TRIES:
                raise
            clock.sleep(PAUSE)
            found = look(calls, wanted)
            continue
        found = after(found, steps[0], answer)
        tell(steps[0])
    raise VaultError("the set-up does not come to an end", advice="give --status, and report its answer")
