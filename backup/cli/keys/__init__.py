"""The commands of keys and certificates, of AWS, and of AWS keys for other programs, with their screens."""
