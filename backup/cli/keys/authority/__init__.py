"""Parts of `nightvault ca` besides making certificates: opening the authority, its records, its roots.

`unlock.py` has the options and the passphrase; `records.py` lists, revokes and signs revocation lists;
`roots.py` replaces the root. The group itself is `ca.py` above.
"""
