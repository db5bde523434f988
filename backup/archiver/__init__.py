"""A backup: from files to stored archives and a committed snapshot."""
