"""Locks in a vault, renewed in time: what any state of the last `lock_for` needed stays locked.

`extend` is the run, `report` what it says. What is decided is in `backup/retention/locks.py`.
"""
