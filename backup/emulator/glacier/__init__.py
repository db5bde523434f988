"""The emulated Glacier vault service of 2012, with its 33 operations.

`service.py` is the ASGI application and the place to begin; `operations.py` maps method and path to
functions; `call.py` is the call that they get. Jobs (`jobs.py`, `job_request.py`, `output.py`) end by the
emulator's clock; archives, uploads, inventories, vaults and their settings have a file each.
"""
