"""Objects: `objects.py` puts, reads and deletes one, `deleting.py` many, under the conditions of
`conditions.py`; `versioning.py` is what remains of one that is replaced; `attributes.py` has attributes and
tags, `listing.py` the lists; `restore.py` is about frozen objects, `lifecycle.py` applies the rules as time
passes.
"""
