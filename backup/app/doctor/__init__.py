"""Checks for what is easily forgotten: each finding says what it is, why it matters, and what to do.

`checks.py` has the list of all checks, and runs them; begin there. `finding.py` has the values. `known.py`
takes over what `status` knows. `machine.py` looks at this machine's files, `jobs.py` at what is backed up and
kept, `nights.py` at the last runs, `databases.py` for databases without a dump; none of them needs a network.
`full_restore.py` says what a restore of everything would take. `recovery.py` tries a recovery key that is
given. `vaults.py` asks the vaults, with a deadline for each, and a handful of requests; `rights.py` tries
what each role may do; `deadline.py` ends a request that hangs.
`rehearsals.py` asks for drills. `mending.py` mends what cannot hurt.
"""

from backup.app.doctor.checks import Report, examine
from backup.app.doctor.finding import Finding, FullRestore

__all__ = ["Finding", "FullRestore", "Report", "examine"]
