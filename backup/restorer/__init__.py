"""Restores: files of a snapshot below a target, in steps that may lie hours apart.

    plan     selection/ chooses entries and finds their chunks; ranges lays MiB-aligned ranges over the frames
    begin    restore holds the plan to the limit of cost, opens the packs' headers with the recovery key,
             keeps the pack keys (pack_keys) and records the restore and its retrievals
    step     restore asks and delivers; command, daemon and drill repeat it, and may end in between
    ask      asking has transfer/retrievals ask the vault for as much as can be fetched in time
    deliver  delivery opens a session: what is ready is fetched, verified, opened (frame_opener) and written
             by writer/; after each sync checkpoints records how far each range was written
    end      when everything came, or never will: metadata of directories, one last sync, the keys are wiped

Invariants: a file has its own name only when each of its chunks was verified. Nothing is requested twice
while its output exists. Missing data damages only the files that need it. dump/ does the same into a stream.
Begin reading at `restore.py`.
"""
