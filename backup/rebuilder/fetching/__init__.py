"""What a rebuild asks the vault for, noted in a journal before it is asked for, and brought to its folder."""
