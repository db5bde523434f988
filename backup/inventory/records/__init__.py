"""Records of work, past and under way: runs, tasks, messages, checks, drills, retrievals and restores.

Work that takes hours is recorded here first, so that another process can continue it.
"""
