"""Contexts of backups by a config (`contexts`), recovery lines, warnings of sources, amending."""
