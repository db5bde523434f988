"""Restores by a config: their contexts, going on with open ones, and notes on why one is held."""
