"""A restore: from what the inventory says to files below a target, hours apart if the vault needs them."""
