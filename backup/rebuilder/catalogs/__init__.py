"""Catalogs from a vault: which of them are trusted, and which make the newest state.

`candidates` lists possible catalogs, `intake` verifies the retrieved ones, `chain` decides which follows
which, and asks the user if nothing proves it.
"""
