"""What was done and what goes on: runs, scheduled tasks, messages, checks, drills, retrievals and restores.

Whatever takes hours is a row here first, so that another process can go on with it.
"""
