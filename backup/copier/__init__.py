"""Copies snapshots into another vault: the same packs, still sealed, and catalogs of its own."""
