"""A backup run: from a job's sources to stored archives and a committed snapshot.

The flow (`backup`): finish what a dead process left (`recovery`) → read the `streams`, scan the `trees` and
`compare` each entry with the newest snapshot → read what changed (`read_ahead`, `contents`) → stage the
changes (`entry_stager`, `staged_changes`) while new chunks become frames and packs (`pipeline`, `sealing`,
`packing`) that are recorded and uploaded (`run_record`) → `commit` writes the delta catalog (`catalogs`), and
with it the snapshot exists → a full catalog if one is due (`catalogs.full`).

    for directory in scan(sources):
        for entry, known in compare(directory, newest snapshot):
            unchanged: nothing        gone: stage its end        else: read, stage a new version
    upload the packs; store the delta catalog; apply what was staged

Invariants: nothing is committed before the delta catalog is stored, and after that the commit can be
repeated; a known chunk is reused only if its archive is stored, or was submitted by this very run; what could
not be read stays as the newest snapshot has it; the server holds no key that opens a pack.

Begin with `run_backup`.
"""
