"""Deletes from a vault what nothing kept needs: condemned first, deleted days later, and nothing else ever.

    prune(context)            # one step; "waiting" while the vault makes its list

One step finishes what a dead process left, gets a list of the vault (`listed.py`), and stops if that shows
what this inventory does not know. Then it decides (`backup.retention.prune`, pure), records in one
transaction which archives go, and has them deleted (`delete.py`). Last it stores, per job, a catalog that
says what is condemned now and which forgotten snapshots cannot come back (`prune.py`).

Invariants: nothing is deleted before a stored catalog of each job that named it says that it is condemned,
and before grace has passed since. What is to be deleted is recorded before the vault is asked; from there on
nothing builds on it or takes it back. So a deletion that comes late, after a cut or a suspended process,
hurts nobody. Where this server may not delete, it only condemns, and somebody else deletes.
"""
