"""Vaults, the places where archives are kept (restic's `internal/backend`): a directory, a Glacier vault, an
S3 bucket. Each class keeps the promises of `protocols.Vault`, whose docstrings are the reference.

- `directory.py`: DirectoryVault; `layout.py` its files; `dirfd.py` opening them relative to a descriptor.
- `glacier.py`: GlacierVault, the vault service of 2012; `glacier_answers.py` parses its answers.
- `s3/vault.py`: S3Vault, joined from `uploads.py`, `retrievals.py`, `deletions.py` and `identity.py` there;
  `answers.py` parses answers, `keys.py` makes and parses keys and ids; `s3_error_codes.py` has the codes.
- `aws.py` (clients, AWS's error codes) and `partbody.py` (the bytes of a part) serve both; `rate_limit.py`
  all three.

A vault tries every request once: it turns failures into our errors, and `transfer/retry.py` decides whether
to try again. All three pass one test suite, `tests/vault/test_contract.py`. Begin reading with
`protocols.Vault`, then `directory.py`, the simplest. A new error code of AWS goes into `aws.py`, one of S3
into `s3_error_codes.py`.
"""
