"""The emulated IAM, as far as roles with inline policies go, and GetCallerIdentity of STS.

`service.py` is the ASGI application of both; `query.py` reads and writes their form: parameters in, XML out.
"""
