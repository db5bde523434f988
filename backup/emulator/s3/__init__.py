"""The emulated Amazon S3: that part of its REST API which a backup in the Glacier classes needs.

`service.py` is the ASGI application and the place to begin. It finds the operation (`operations.py` maps
method, subresource and path to functions of the kind in `operation.py`; `unsupported.py` lists those that S3
has and the emulator has not), has the request read and proven (`request/`), asks whether its caller may do
it (`actions.py`, `authorise.py`), and runs it on a call (`call.py`): in `buckets/`, `objects/` or
`uploads/`. All of these use `xml.py`, `metering.py` (what is billed) and `removing.py` (rows that go with
their files).
"""
