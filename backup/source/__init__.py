"""What a job reads: trees of files, walked in a stable order and never out of themselves."""
