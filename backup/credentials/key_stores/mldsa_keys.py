"""ML-DSA private keys in the PKCS#8 forms that openssl writes; pure.

By RFC 9881 a key is its seed, its expanded form, or both. `cryptography` reads only the seed, openssl writes
both: this module extracts the seed. An expanded form without its seed cannot be used.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import mldsa

SEED_SIZE = 32

_PEM = re.compile(rb"-----BEGIN PRIVATE KEY-----(.+?)-----END PRIVATE KEY-----", re.DOTALL)
MldsaKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey

_KINDS: Mapping[str, Callable[[bytes], MldsaKey]] = {
    "2.16.840.1.101.3.4.3.17": mldsa.MLDSA44PrivateKey.from_seed_bytes,
    "2.16.840.1.101.3.4.3.18": mldsa.MLDSA65PrivateKey.from_seed_bytes,
    "2.16.840.1.101.3.4.3.19": mldsa.MLDSA87PrivateKey.from_seed_bytes,
}


@asn1.sequence
class _Algorithm:
    oid: x509.ObjectIdentifier


@asn1.sequence
class _Pkcs8:
    version: int
    algorithm: _Algorithm
    key: bytes


@asn1.sequence
class _Both:
    seed: bytes
    expanded: bytes


def read_both_form(pem: bytes) -> MldsaKey | None:
    """The key in the first unencrypted PKCS#8 block if that holds seed and expanded form, else None."""
    found = _PEM.search(pem)
    if found is None:
        return None
    try:
        outer = asn1.decode_der(_Pkcs8, base64.b64decode(found[1]))
        kind = _KINDS.get(outer.algorithm.oid.dotted_string)
        both = asn1.decode_der(_Both, outer.key)
        return kind(both.seed) if kind and len(both.seed) == SEED_SIZE else None
    except ValueError:
        return None
