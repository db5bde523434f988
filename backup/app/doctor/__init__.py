"""Checks for common omissions: each finding says what is wrong, why it matters, and what to do.

`table.py` has all kinds of findings with their texts; `checks.py` has the list of all checks, and runs them:
begin with these. `finding.py` has the values. `machine.py` looks at this machine's files, `jobs.py` at what
is backed up and kept, `history.py` at runs, checks and drills; none of them needs a network. `recovery.py`
estimates a full restore, and tries a recovery key that is given. `vaults.py` asks the vaults, with a deadline
for each, and a handful of requests; `rights.py` tries what each role may do.
"""

from backup.app.doctor.checks import Report, examine
from backup.app.doctor.finding import Finding, FullRestore

__all__ = ["Finding", "FullRestore", "Report", "examine"]
