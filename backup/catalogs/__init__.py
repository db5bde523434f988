"""Commits changes: each is written into a catalog, stored in the vault, and applied here.

The flow: finish what a dead process left (`recovery`) → `run_setup` opens the vault and its domain → chunks
and records become packs and catalogs (`packing`, `writer`, `delta`, `full`) → `sending` stores them →
`commit` writes the rows. A backup does this with what it read (`backup.archiver`); forget, prune and all
other changes of stored data use `amend`.

Invariants: nothing is committed before its catalog is stored, and after that the commit can be repeated; the
server holds no key that opens a pack.

Begin with `amend`.
"""
