"""The database itself: opening, migrating and copying it, transactions, locks, tables, its laws.

`database` opens and migrates it and hands out transactions (`connections`); `driver` runs statements past
SQLAlchemy; `locks` keeps two processes apart and `holders` finds who holds one; `schema` has the tables, and
`stages` the states of what takes hours. `invariants` says as queries what holds between the rows.
"""
