"""HTTP: `protocol.py` is the connection, `sink.py` takes long bodies from its socket, `receive.py` receives
all bodies and hashes uploads as they come (`treehash.py` is Glacier's hash, `json_body.py` reads JSON);
`endpoint.py` is one exchange from request to answer, to which it applies what `faults.py` has planned.
"""
