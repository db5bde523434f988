"""The emulated IAM Roles Anywhere: sessions for certificates, and the control plane for what they need.

`sessions.py` is the ASGI application of CreateSession and decides; `session_request.py` reads the request
and verifies its signature; `subject.py` maps the certificate's subject to session tags. `control.py` is the
application of all other operations, which `operations.py` lists; `control_call.py` is the call that they
get; `making.py` makes and changes trust anchors, profiles and CRLs, `given.py` checks what requests give,
`records.py` keeps them in the database.
"""
