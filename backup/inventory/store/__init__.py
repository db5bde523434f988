"""The database itself: opening, migrating and copying it, transactions, locks, tables, its laws.

`database` opens it and hands out transactions (`connections`), `migrating` brings its tables up;
`driver` runs statements; `locks` keeps two processes apart, `holders` finds who holds one; `schema` has the
tables, and `states` the states of what takes hours. `invariants` says as queries what holds between the rows.
"""
