"""Queries for the stored data: snapshots, entries and their versions, archives, and the chunks in them.

`entries` and `snapshots` say what a snapshot holds; `archives` and `packed` where its chunks are; `need` and
`pruning` which archives are still needed, and which are condemned or deleted.
"""
