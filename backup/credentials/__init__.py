"""Temporary AWS keys for this machine: got with a certificate, renewed in time, never written down."""
