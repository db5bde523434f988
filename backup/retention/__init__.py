"""Retention: which snapshots of a job are kept, and why; what they cost, and how that grows. Pure.

`policy.py` decides, begin there: a `Policy` and the snapshots as `Candidate` values in, one `Decision` with
its reasons for each out. `rules.py` has one class for each kind of rule, `periods.py` the hours, days,
weeks, months and years of a calendar, `spans.py` lengths of time such as "90d", `dates.py` finds snapshots
whose dates cannot be right.

`simulate.py` runs a policy over the nights of years to come, `picture.py` draws that, `table.py` prints it.

`stats.py` sums up archives and money, with `nights.py` for growth and `ages.py` for minimum durations;
`unusual.py` finds nights whose numbers are far from those before.

Invariants: no clock, disk or vault is used here; where something is not certain (a wrong date, a policy that
keeps nothing), no snapshot is forgotten.
"""

from backup.retention.policy import ALL, Candidate, Decision, Policy, decide

__all__ = ["ALL", "Candidate", "Decision", "Policy", "decide"]
