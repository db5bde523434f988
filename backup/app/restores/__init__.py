"""Restores by a config: their contexts, continuing open ones, and notes on why one cannot continue."""
