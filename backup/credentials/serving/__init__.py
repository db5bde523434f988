"""Passes keys on to other programs: by a cache on disk, a profile, or a server on loopback as EC2 has it.

`cache.py` keeps what `credential-process` got; `imds.py` and `container.py` answer requests, held to this
machine by `local_requests.py`; `profile.py` writes a profile of the AWS files.
"""
