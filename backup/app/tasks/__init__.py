"""The daemon's tasks: which there are (`tasks`), when one is due (`times`), what is remembered (`book`)."""
