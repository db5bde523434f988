"""Requests to the vault, noted in a journal before they are sent, and downloads into a folder."""
