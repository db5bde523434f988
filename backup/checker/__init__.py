"""Whether a vault is what we recorded, and the inventory made anew from the vault alone."""
