"""Uploads and downloads of archives, with retries, and the checks of a vault before a run writes to it."""
