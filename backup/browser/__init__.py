"""One tree of all that was saved, over every night: names by the inventory, contents from where they are hot.

`tree` answers what is where, by the inventory alone; `packs` says where the bytes of a file can be read now,
and `contents` reads them, verified, from any position. Nothing here asks a vault to make anything readable.
The ways into it are in `served/`.
"""
