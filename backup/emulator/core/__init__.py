"""The parts that the emulated services share; none of them imports a service.

- HTTP: `protocol.py` (the connection), `sink.py` and `receive.py` (bodies), `endpoint.py` (one exchange),
  `wire.py` (requests, answers, dates, ids), `json_body.py`.
- State: `store.py` (one SQLite database and files), `schema.py`, `clock.py`, `settle.py` (work that is due),
  `settings.py`, `messages.py` and `webhook.py` (messages to topics).
- Access: `accounts.py` and `accounts_file.py`, `callers.py`, `sigv4.py` and `presigned.py`, `policy.py` and
  `conditions.py`, `certificates.py`.
- Failures: `errors.py` and `s3_errors.py` (AWS's codes and texts, here because a planned fault may name any
  of them), `faults.py` (planned faults).
- `treehash.py`: Glacier's tree hash, which is computed while a body is received.
"""
