"""The emulated IAM Roles Anywhere: CreateSession, from a signed request to temporary keys.

`sessions.py` is the ASGI application and decides; `session_request.py` reads the request and verifies its
signature; `subject.py` maps the certificate's subject to session tags.
"""
