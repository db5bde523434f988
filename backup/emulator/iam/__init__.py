"""The emulated IAM, as far as roles go, and GetCallerIdentity of STS.

`service.py` is the ASGI application of both, `roles.py` has IAM's operations; `query.py` reads and writes
their form: parameters in, XML out.
"""
