"""The daemon's tasks: their list (`tasks`), when one is due (`times`), what is stored of them (`book`)."""
