"""Catalogs as they come out of a vault: believed or refused, and which of them make the newest state.

`candidates` says what may be a catalog, `intake` verifies what came, `chain` decides what follows what, and
asks a person where nothing proves it.
"""
