"""The emulated Amazon S3: that part of its REST API which a backup in the Glacier classes needs.

`service.py` is the ASGI application and the place to begin; `operations.py` maps method, subresource and path
to functions, `unsupported.py` lists the operations that S3 has and the emulator has not; `call.py` is the
call that they get. Bodies are received and verified by `receive.py`, `chunked.py` and `checksums.py`. Frozen
objects and their restores are in `restore.py`, lifecycle rules in `lifecycle.py`.
"""
