"""An inventory that is rebuilt from the vault: its rows in bulk, and how far they equal those of another."""
