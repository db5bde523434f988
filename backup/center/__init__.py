"""The center: many hosts tell it how their backups are; it holds no key, and runs nothing on a host.

`serve.py` is the application that takes reports: `identity.py` says whose a request is, `joining.py` lets
hosts in by invitations, `receive.py` makes rows of reports, with what `summary.py` makes of each. `view.py`
has what is shown, `database.py` opens PostgreSQL, `tables.py` has the tables.
"""
