"""Buckets and what is set on them: `buckets.py` makes, lists and deletes them; `documents.py` keeps their
settings (policy, lifecycle, tags and more), of which `lifecycle_rules.py` and `public_access.py` know the
meaning; `object_lock.py` has the locks, of single objects too; `acls.py` and `unset_settings.py` answer what
is never set.
"""
