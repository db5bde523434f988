"""Drills: rehearsals of restores, which prove that a vault's content can be restored.

`sample.py` and `money.py` are pure: which files are next, and how much of the monthly budget is left.
`candidates.py` reads the possible files from the inventory; `planning.py` chooses, `budget.py` keeps to the
monthly limit. `read_back.py` has archives retrieved by the reader of checks; `restore_grade.py` restores
files with the restorer into the directory of `scratch.py`, and `compare.py` compares the result. `context.py`
and `report.py` are a drill's input and output.
"""
