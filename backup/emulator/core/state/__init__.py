"""The state that the emulator keeps: `store.py` is the SQLite database with files beside it, `schema.py` its
tables. `clock.py` is the clock that can be stepped, `settle.py` does before each request what became due,
`meter.py` records what bills count, `messages.py` keeps messages to topics and posts them; `settings.py` has
the switches.
"""
