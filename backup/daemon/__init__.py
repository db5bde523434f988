"""The daemon: runs the tasks of a config by their schedules, until it is asked to stop.

Begin with `service.py`, which puts the parts together. `board.py` has the tasks that are due, queued and
running; `executor.py` runs them by `work.py`, and calls the watchers; `loop.py` is the main thread.
`app/tasks/times.py`, which is pure, decides when a task is due.
"""
