"""nightvault: sealed, deduplicated nightly backups into cold storage."""

try:
    from backup.built import VERSION  # type: ignore[import-untyped]  # made by hatch_build.py
except ImportError:
    VERSION = "0.3.0.dev0"

__version__ = VERSION
