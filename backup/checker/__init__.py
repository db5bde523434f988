"""Checks: of a vault, against the inventory and by reading archives back; of the inventory's own invariants.

`check` compares the inventory with the vault's own list, `read_sample` reads archives back (`sample` chooses
the pieces, `verify_slice` proves one), `invariants` holds the inventory to its own rules. `affected` names
the files and snapshots that need lost chunks, `check` the jobs whose catalogs do not name all they need. A
check marks archives and deletes nothing; what cannot be read is never taken for missing.
"""
