"""Containers by the API of Docker or Podman: their volumes as sources, and their rest while these are read.

Begin with `volumes.py`, what a job reads; `labels.py` has the words that are understood, `resting.py` stops
and starts, `api.py` asks the engine.
"""
