"""Makes a new inventory from the vault and a recovery key alone.

Flow: `rebuild.rebuild` is one step of it, and the same command goes on hours later. `catalogs/candidates`
lists possible catalogs (from recovery lines or the vault's list); `find_states` has them retrieved by
`fetching/fetch`, which notes each request in its journal before it is sent; `catalogs/chain` decides, without
reading a body, which of them can be trusted and which make each job's newest state; `applying/apply` streams
their records into an inventory that is built beside its place. `applying/uncovered_packs` reads the
directories of packs that no catalog names.

Invariants: nothing of a catalog's body is used before its signer is vouched for. No state older than a
recovery line is accepted. Records are checked against `record_ranges`; a value out of range spoils only its
own snapshots. An error leaves no inventory behind.

Begin reading at `rebuild.py`, then `catalogs/chain.py`.
"""
