"""Our SQL database: what was stored where, and which files it makes up."""
