"""The keeper: deletes in place of servers that may not (`prune --delete-only`).

    keep(context)      # one step (`keep.py`); "waiting" while the vault makes its list or retrieves catalogs

Two states of each server are rebuilt from its catalogs (`state.py`): the newest, and that of the floor, which
holds everything that existed within the span that is kept. `rules.py` decides, `lineages.py` stops where a
catalog is in neither, `signs.py` names signs of an intruder. The keeper stores no inventory and no key;
`folder.py` has what it requested, and wipes the rest.

Invariant: nothing is deleted that a snapshot within the floor needs, whatever later catalogs say.
"""
