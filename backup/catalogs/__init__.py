"""How anything becomes true in a vault: it is written into a catalog, stored there, and then committed here.

The flow: finish what a dead process left (`recovery`) → `run_setup` opens the vault and its domain → chunks
and records become packs and catalogs (`packing`, `writer`, `delta`, `full`) → `sending` stores them →
`commit` writes the rows. A backup does it with what it read (`backup.archiver`); a prune, a forget and
whatever else changes what is stored already do it with `amend`.

Invariants: nothing is true before its catalog is stored, and after that the commit can be repeated; the
server holds no key that opens a pack.

Begin with `amend`.
"""
