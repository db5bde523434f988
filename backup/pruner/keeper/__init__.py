"""The keeper: deletes in place of servers that may not (`prune --delete-only`).

    keep(context)      # one step (`keep.py`); "waiting" while the vault makes its list or retrieves catalogs

Two states of each server are rebuilt from its catalogs (`state.py`): the newest, and that of the floor, which
holds whatever was there within the span that is kept. `rules.py` decides, `lineages.py` stops where a catalog
is in neither, `signs.py` names what an intruder may have done. It keeps no inventory and no key; `folder.py`
has what it asked for, and is wiped.

Invariant: nothing goes that a snapshot needs which the vault had accepted within the floor, whatever the
server's catalogs say since.
"""
