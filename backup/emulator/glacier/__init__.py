"""The emulated Glacier vault service of 2012, with its 33 operations.

`service.py` is the ASGI application and the place to begin; `operations.py` maps method and path to
functions, `call.py` is the call that they get, `authorise.py` says whether its caller may make it,
`metering.py` counts it for the bill. Vaults are in `vaults.py`, what is set on them in `tags.py`,
`notifications.py`, `access_policies.py` and `locks.py`; archives in `archives.py`, those that come in parts
in `uploads.py`, the daily lists of them in `inventories.py`. Jobs (`jobs.py`; `job_request.py` reads what is
asked for, `output.py` delivers it) end by the emulator's clock; `retrieval_policy.py` and `capacity.py`
limit them.
"""
