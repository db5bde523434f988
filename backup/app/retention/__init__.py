"""Forgetting, marking, pruning and compacting by a config, undoing them; the contexts of a keeper."""
