"""Drills: rehearsals of restores, which prove what a vault holds before anybody needs it.

`sample.py` and `money.py` are pure: what comes next, and what a month still allows. `candidates.py` reads
from the inventory what may come; `planning.py` chooses, `budget.py` holds that to the month. `read_back.py`
has archives retrieved by the reader of checks; `restore_grade.py` restores files with the restorer into the
directory of `scratch.py`, and `compare.py` looks at what came. `context.py` and `report.py` are what a drill
is given and what it tells.
"""
