"""The base that the emulated services share; nothing here imports a service.

`http/` is the connection, bodies and answers, with the faults that are planned for them; `state/` is the
database with its files, the clock, the settings and what becomes due; `access/` is accounts, signatures,
certificates and policies. All three use `wire.py` (requests, answers, dates, ids) and AWS's error codes and
texts: `errors.py` and, for S3, `s3_errors.py`, which are here because a planned fault may name any of them.
"""
