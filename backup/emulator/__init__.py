"""A local AWS on loopback: the Glacier vault service, S3 and IAM Roles Anywhere, written from AWS's
documents alone.

Nothing else of this project is imported here, so that a mistake in our own tree hash, signer or certificate
code cannot agree with itself.

`server.py` runs one process with two ports: `s3/service.py` has one; `glacier/service.py`,
`rolesanywhere/sessions.py` and the emulator's own interface `admin.py` share the other. `core/` has all that
the services share and imports none of them; `duties.py` tells its store what each service does as time
passes. `__main__.py` starts it without nightvault's command line, `pytest_plugin.py` for anybody's tests.

A request goes the same way in Glacier and S3: `service.py` finds the operation (`operations.py`),
authenticates (`core/access/authenticate.py`, S3's `s3/request/authenticate.py`) and authorises
(`authorise.py`) the caller, and runs the operation on a `Call` in a transaction, after
`core/state/settle.py` has done everything that is due by the emulator's clock. `core/http/endpoint.py` sends
the answer, or what a planned fault makes of it. A new operation is a function and a line in `operations.py`;
S3's error codes are in `core/s3_errors.py`, those of the other services in `core/errors.py`. Begin reading
with `glacier/service.py`.
"""
