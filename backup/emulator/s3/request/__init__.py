"""A request until its call is run: `address.py` reads bucket and key, `authenticate.py` who signed it and
how, `parameters.py` refuses headers that nobody would heed; `receive.py` takes the body into a file, out of
signed chunks (`chunked.py`), and compares its hashes (`checksums.py`).
"""
