"""Mending what cannot hurt: modes of files. Everything else is left to whoever knows why it is so."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from backup.app.doctor.finding import Finding


class Mended(Struct, frozen=True):
    """What was mended, in sentences, and what remains."""

    done: Sequence[str]
    left: Sequence[Finding]


def mend(findings: Sequence[Finding]) -> Mended:
    """Mend what can be; what fails remains a finding."""
    done, left = [], []
    for one in findings:
        try:
            if one.fix is None:
                left.append(one)
            else:
                done.append(one.fix())
        except OSError:
            left.append(one)
    return Mended(done, left)
