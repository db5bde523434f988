"""The emulated Glacier vault service of 2012: its 33 operations, by `service` as an ASGI application."""
