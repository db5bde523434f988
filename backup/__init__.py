"""nightvault: sealed, deduplicated nightly backups into cold storage."""

__version__ = "0.1.0"
