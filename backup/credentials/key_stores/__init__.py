"""The stores of private keys: PEM and PKCS#12 files (`keyfiles.py`), tokens (`tokens.py`), TPMs (`tpm.py`).

Each opens a key that signs as `keys.py` promises; ML-DSA keys in files are read by `mldsa_keys.py`. Which
one a path or URI means is decided in `identity.py`.
"""
