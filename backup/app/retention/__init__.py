"""Forgetting, marking, pruning and compacting by a config, and taking each of them back."""
