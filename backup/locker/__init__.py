"""Locks in a vault, renewed in time: what any state of the last `lock_for` needed stays locked.

`extend` is the run, `report` what it says; `versions` finds what somebody did nevertheless, and
takes it back. What is decided about locks is in `backup/retention/locks.py`.
"""
