"""What commands share: errors as exit codes, tables and progress, waiting, flags, key files, quotes."""
