"""Who calls, and what they may: `accounts_file.py` reads the accounts into the values of `accounts.py`. A
caller (`callers.py`) is proven by a signature (`sigv4.py`; `authenticate.py` for all services but S3) or a
certificate (`certificates.py`). `policy.py` and `conditions.py` are IAM's language, `evaluate.py` decides by
it; `identities.py` has the roles, those made by IAM too.
"""
