"""The daemon: does the tasks of a config by their schedules, until it is asked to stop.

`service.py` puts it together; begin there. `board.py` knows what is due, queued and running; `executor.py`
carries runs out by `work.py`, and tells the watchers; `loop.py` is the main thread. When a task is due is
decided in `app/tasks/times.py`, which is pure.
"""
