"""Uploads and downloads of archives, with retries, and the checks of a vault before a run writes to it.

What every run is given (`VaultRun`) stands in `vault_run`; contexts of backups, checks and so on extend it.
"""
