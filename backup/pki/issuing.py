"""Issues certificates for servers: with a new key, or for a request (CSR) whose key stays on its server."""

from __future__ import annotations

import os
import shlex
import stat
import warnings
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from msgspec import Struct

from backup.credentials.certificate import name_text, subject_values
from backup.credentials.identity import load_certificates
from backup.credentials.identity_paths import MOST_FILE
from backup.credentials.key_stores.keyfiles import Passphrase, read_private_key
from backup.errors import IdentityError, NightvaultError, UsageError
from backup.files import open_small
from backup.owners import Hazard, foreign_link, user_named
from backup.pki.authority import Authority, CertificateContents, PublicKey, sign_certificate
from backup.pki.files import PRIVATE, NewFile, create_files, make_directory, replace_files
from backup.pki.index import load_copy, read_index, record
from backup.pki.keys import KeyType, PrivateKey, generate_key, private_pem, signature_hash
from backup.pki.subjects import Subject, check_common_name, check_part, file_stem

LEAST_RSA_BITS = 2048
MOST_NAMES = 5
"""The most names that a sentence lists."""


class Issued(Struct, frozen=True):
    """An issued certificate, the paths of it and its key, and the certificate that it replaced."""

    certificate: x509.Certificate
    certificate_path: str
    key_path: str
    replaced: x509.Certificate | None = None


def issue(
    authority: Authority, subject: Subject, *, key_type: KeyType, days: int, directory: str, now: datetime
) -> Issued:
    """Make a new key and its certificate in `directory`, as NAME.key and NAME.pem.

    Issued again under the same name they replace the old ones, once both new ones are written: a server that
    reads them between the two renames finds a pair that does not fit, and reads again.
    """
    return issue_all(authority, [subject], key_type=key_type, days=days, directory=directory, now=now)[0]


def issue_all(
    authority: Authority,
    subjects: Sequence[Subject],
    *,
    key_type: KeyType,
    days: int,
    directory: str,
    now: datetime,
) -> Sequence[Issued]:
    """Make a key and a certificate for each subject, as `issue` does."""
    make_directory(directory)
    for subject in subjects:
        check_common_name(subject.common_name)
        _check_place(directory, subject.common_name)
    made = []
    for subject in subjects:
        key = generate_key(key_type)
        contents = CertificateContents(subject.name(), subject.alternative_names(), key.public_key(), days)
        made.append((subject, key, sign_certificate(authority, contents, now)))
    record(authority.directory, [certificate for _, _, certificate in made])
    return [_write_pair(directory, *pair) for pair in made]


def _check_place(directory: str, name: str) -> None:
    """`UsageError` if the files of another server are where those of `name` go, as of `a_b` and `a b`."""
    path = os.path.join(directory, f"{file_stem(name)}.pem")
    known = certificate_at(path)
    if known is None:
        return
    there = subject_values(known, NameOID.COMMON_NAME)
    if there != [name]:
        raise UsageError(
            f"{path} is the certificate of {', '.join(there) or 'nobody'}: that of {name!r} would replace it",
            advice="choose another place: --out",
        )


def certificate_at(path: str) -> x509.Certificate | None:
    """Return the certificate in a file; None if there is none, or it cannot be read."""
    try:
        return load_certificates(path)[0]
    except NightvaultError:
        return None


def _write_pair(directory: str, subject: Subject, key: PrivateKey, certificate: x509.Certificate) -> Issued:
    stem = os.path.join(directory, file_stem(subject.common_name))
    issued = Issued(certificate, f"{stem}.pem", f"{stem}.key", certificate_at(f"{stem}.pem"))
    replace_files(
        [
            NewFile(issued.key_path, private_pem(key), PRIVATE),
            NewFile(issued.certificate_path, certificate.public_bytes(Encoding.PEM)),
        ]
    )
    return issued


def make_csr(
    subject: Subject, *, key_type: KeyType, key_path: str, csr_path: str, passphrase_file: str | None = None
) -> x509.CertificateSigningRequest:
    """Write a request for `subject` to `csr_path`, for the key at `key_path`, which is made if it is
    missing. One that is there must be the caller's or root's, and nobody else's to read: `IdentityError`."""
    data = _own_key(key_path)
    known = data is not None
    read = None if data is None else read_private_key(data, key_path, Passphrase(passphrase_file))
    key = generate_key(key_type) if read is None else read
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise IdentityError(
            f"requests for ML-DSA keys such as {key_path} cannot be made here",
            advice="make it with `openssl req -new -key …`",
        )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject.name())
    names = subject.alternative_names()
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    csr = builder.sign(key, signature_hash(key))
    if not known:
        create_files([NewFile(key_path, private_pem(key), PRIVATE)])
    replace_files([NewFile(csr_path, csr.public_bytes(Encoding.PEM))])
    return csr


def _own_key(path: str) -> bytes | None:
    """The bytes of a key's file; None if there is none. Another user who made it has the key, too."""
    try:
        hazard = foreign_link(os.path.abspath(path))
        with open(path, "rb", opener=open_small) as file:
            found, data = os.fstat(file.fileno()), file.read(MOST_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(f"the private key {path} cannot be read: {error.strerror}") from error
    if hazard is None and found.st_uid not in {0, os.geteuid()}:
        hazard = Hazard(path, f"{path} belongs to {user_named(found.st_uid)}", "")
    if hazard is not None:
        raise IdentityError(
            f"the private key {path} is not used: {hazard.why}",
            advice="name another place: a key is made there",
        )
    if found.st_mode & 0o077 and stat.S_ISREG(found.st_mode):
        raise IdentityError(
            f"the private key {path} is not used: by its mode {stat.S_IMODE(found.st_mode):04o} others"
            " may have read it",
            advice=f"name another place, or if nobody has: chmod 600 {shlex.quote(path)}",
        )
    return data


def sign_csr(
    authority: Authority,
    data: bytes,
    *,
    days: int,
    now: datetime,
    only_for: str | None = None,
    organization: str | None = None,
    unit: str | None = None,
    named: str = "this",
) -> x509.Certificate:
    """Sign a request (PEM).

    Subject, DNS and URI names and the key are taken from the request, other extensions are not: a request
    cannot make itself an authority. `UsageError` for a request that is damaged or has a name or key that AWS
    would refuse, which is called `named`. `only_for` is a server's name: its request must not ask for more
    than its newest certificate has. `organization` and `unit` are those that it must ask for.
    """
    csr = _read_csr(data, named)
    contents = CertificateContents(_checked_subject(csr), _checked_names(csr), _checked_key(csr), days)
    _check_group(contents.subject, organization, unit)
    if only_for is not None:
        _check_renewal(authority, contents, only_for)
    certificate = sign_certificate(authority, contents, now)
    record(authority.directory, [certificate])
    return certificate


def _check_renewal(authority: Authority, contents: CertificateContents, name: str) -> None:
    """Refuse a request for another subject or other names than those of the server's newest certificate.

    A server that may have requests signed by itself could otherwise become any other.
    """
    newest = read_index(authority.directory).newest(name)
    if newest is None:
        raise IdentityError(
            f"{name} never had a certificate of this authority", advice="issue its first one by hand"
        )
    if newest.revoked_at is not None:
        raise IdentityError(
            f"the newest certificate of {name} is revoked: it is not renewed",
            advice="issue another one by hand, if the server is to go on",
        )
    present = load_copy(authority.directory, newest.serial)
    if contents.subject != present.subject:
        raise IdentityError(
            f"the request is for {name_text(contents.subject)}, not for {newest.subject}",
            advice=f"only the certificate of {name} is renewed here",
        )
    asked, has = _names(contents.alternative_names), _names(_names_of(present))
    if asked - has:
        raise IdentityError(
            f"the request of {name} asks for more names than it has: {_few(sorted(asked - has))}",
            advice="have it signed by hand, without --for",
        )


def _check_group(subject: x509.Name, organization: str | None, unit: str | None) -> None:
    """Refuse a request for another organization or unit than the given ones: shared roles let in by these."""
    for oid, what, wanted in (
        (NameOID.ORGANIZATION_NAME, "organization (O)", organization),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "unit (OU)", unit),
    ):
        found = [str(attribute.value) for attribute in subject.get_attributes_for_oid(oid)]
        if wanted is not None and found != [wanted]:
            has = ", ".join(map(repr, found)) or "none"
            raise IdentityError(
                f"the request is for the {what} {has}, not for {wanted!r}",
                advice="have the server make another one: `nightvault identity csr`",
            )


def _few(names: Sequence[str]) -> str:
    """The first of many names."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _names(names: x509.SubjectAlternativeName | None) -> set[str]:
    return {str(name.value) for name in names or ()}


_UNREADABLE = (
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


def _read_csr(data: bytes, named: str) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused in our words
            parts = (csr.subject, csr.extensions, csr.public_key())  # parsed on first use otherwise
        valid = bool(parts) and csr.is_signature_valid
    except (ValueError, *_UNREADABLE) as error:
        raise UsageError(
            f"{named} is no certificate signing request in PEM, or has a part that cannot be read"
        ) from error
    if not valid:
        raise IdentityError(
            "the request is not signed by the key that it names",
            advice="make it anew: `nightvault identity csr`",
        )
    return csr


def _checked_subject(csr: x509.CertificateSigningRequest) -> x509.Name:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that are too long, which are refused in our words
        subject = csr.subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        raise UsageError("the request names no common name (CN)")
    if len(names) > 1:  # AWS joins them with a slash
        raise UsageError("the request names several common names (CN)", advice="one server has one")
    check_common_name(str(names[0].value))
    for attribute in subject:
        check_part("subject's part", str(attribute.value))
    return subject


def _names_of(
    owner: x509.CertificateSigningRequest | x509.Certificate,
) -> x509.SubjectAlternativeName | None:
    try:
        return owner.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _checked_names(csr: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    names = _names_of(csr)
    if names is None:
        return None
    kept = [name for name in names if isinstance(name, x509.DNSName | x509.UniformResourceIdentifier)]
    return x509.SubjectAlternativeName(kept) if kept else None


def _checked_key(csr: x509.CertificateSigningRequest) -> PublicKey:
    key = csr.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 256:
        return key
    raise UsageError(
        "the request's key is none that AWS takes", advice=f"use RSA from {LEAST_RSA_BITS} bits or P-256"
    )


def common_name(certificate: x509.Certificate) -> str:
    """The certificate's common name."""
    return subject_values(certificate, NameOID.COMMON_NAME)[0]
