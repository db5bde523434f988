"""The core: bytes in, bytes out; what stays readable for decades is decided here (docs/format.md)."""
