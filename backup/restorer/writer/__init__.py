"""Writes a restore into its target directory: look, compare, write, rename; never outside of it.

The flow: `directories` opens paths step by step, without following symlinks. Before the restore, `existing`
compares what is there, `extraneous` lists what the snapshot does not have, and `confirmed` stores both, so
that the comparison is not made again hours later. Then `assemble` verifies the chunks of each frame and gives
them to `write`; `making` writes a file under a temporary name (`partial_files`), sets `metadata` and renames
it. `maker` does the same for small files in worker processes, among which `sharing` divides them.

Invariants: a file has its own name only when all its chunks were verified; only confirmed paths are removed;
a chunk counts as written only after a sync. Begin with `Assembly.accept`.
"""
