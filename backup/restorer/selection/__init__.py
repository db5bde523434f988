"""Selection of the entries of a snapshot that a restore writes, and of the chunks that they need.

The flow: `choice` (paths and patterns, kept with the restore) → `select` reads the inventory by it and
returns a `Selection` → the plan asks `chunk_locations` which frames of which archives to retrieve → the
assembly asks `chunk_users` for the files and offsets that each chunk is written to.

Invariants: names that could lead out of the target never get past `select`; files keep the order in which
they were stored; a chunk's location is valid, or it is left out and its files are reported.

A million files must fit into little memory: entries (`entry`, `columns`), files (`files`), chunk locations
and chunk users are columns of packed numbers, and values are made on demand. Begin with `select_entries`.
"""
