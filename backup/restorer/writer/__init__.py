"""Everything a restore does in the target directory: look, compare, write, rename; never outside of it.

The flow: `directories` opens paths step by step, without following symlinks. Before the restore, `existing`
compares what is there, `extraneous` lists what the snapshot does not have, and `confirmed` stores both, so
that nothing is judged anew hours later. Then `assemble` verifies the chunks of each frame and gives them to
`write`; `making` writes a file under a temporary name (`partial_files`), sets `metadata` and renames it.
`maker` does the same in workers for small files, which `sharing` divides up.

Invariants: a file has its own name only when all its chunks were verified; only confirmed paths are removed;
a chunk counts as written only after a sync. Begin with `Assembly.accept`.
"""
