"""Deletes archives that no kept snapshot needs: condemned first, deleted days later.

    prune(context)            # one step; "waiting" while the vault makes its list

One step finishes what a dead process left, gets a list of the vault (`listed.py`), and stops if that shows
catalogs that this inventory does not know. Then it decides (`backup.retention.prune`, pure), records in one
transaction which archives go, and has them deleted (`delete.py`). Last it stores, per job, a catalog that
says what is condemned now and which forgotten snapshots cannot come back (`prune.py`).

Invariants: nothing is deleted before a stored catalog of each job that named it says that it is condemned,
and before grace has passed since. A deletion is recorded before it is requested; from then on nothing reuses
the archive or takes it back. So a late deletion, after a crash or by a suspended process, does no harm. Where
this server may not delete, it only condemns, and a keeper deletes.
"""
