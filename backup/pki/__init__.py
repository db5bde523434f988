"""A small certificate authority, like one made with openssl, for certificates of IAM Roles Anywhere.

`authority.py` creates, opens and signs; `issuing.py` makes a server's certificate with a new key, or for a
request whose key stays on the server; `subjects.py` limits names to those that AWS accepts as session tags;
`keys.py` and `files.py` make and write keys. Only the CLI may import this package: a server needs no CA key.
Begin reading with `authority.py`.
"""
