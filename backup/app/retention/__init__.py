"""Forgetting, marking, pruning and compacting by a config, and undoing each of them."""
