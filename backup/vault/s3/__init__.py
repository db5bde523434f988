"""A bucket as a vault: `vault` is the class; uploads, retrievals, deletions, its identity, keys, answers."""
