"""Databases by name: their dumps as streams, without a file between, and the way back into a server.

Begin with `engine.py`, the protocol; `server.py` runs the clients of a server, `dumps.py` has the streams of
a run. One module for each engine: `postgresql`, `mariadb` (MySQL too), `redis`, `sqlite`.
"""
