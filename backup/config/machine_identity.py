"""The machine's identity in the config: certificate and key, its renewal, and Roles Anywhere."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from backup.config.shapes import Command, Endpoint, Text, shape

_ARN = "arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:"
_ARN_SENTENCE = "must look like arn:aws:rolesanywhere:REGION:ACCOUNT:"
_Region = Annotated[str, shape("[a-z]{2,4}(-[a-z]+)+-[0-9]+", "must look like eu-central-1")]
_Anchor = Annotated[str, shape(_ARN + "trust-anchor/[A-Za-z0-9-]+", _ARN_SENTENCE + "trust-anchor/ID")]
_Profile = Annotated[str, shape(_ARN + "profile/[A-Za-z0-9-]+", _ARN_SENTENCE + "profile/ID")]
_Ssh = Annotated[
    str, shape("([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9_.:-]*", "must be HOST or USER@HOST")
]
_RenewedKey = Annotated[str, shape("new|same", "must be new or same")]
_Session = Annotated[str, shape("[A-Za-z0-9_+=,.@-]{2,64}", "must be 2 to 64 letters, digits and _+=,.@-")]


class RenewSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[identity.renew]`: how the certificate is renewed, by one of `command`, `ssh` and `files`.

    `command` and `ssh` (`[USER@]HOST` of the authority) get a request on standard input and print the
    certificate; `timeout` is in seconds. `files`: another program renews the configured files, and what it
    writes is taken over. `key`: a new one each time, or the same. `request` is that of a key we cannot sign
    with.
    """

    command: Command | None = None
    ssh: _Ssh | None = None
    files: bool = False
    key: _RenewedKey = "new"
    request: Text | None = None
    timeout: Annotated[int, Meta(ge=1, le=3600)] = 120


class IdentitySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[identity]`: certificate (PEM, PKCS#12, `pkcs11:` URI) and key (these, TSS2 PEM, `handle:0x81…`).

    Paths are absolute. `intermediates` holds the chain above the certificate, `passphrase_file` what opens
    the key (a passphrase, PIN or password), `pkcs11_module` a token's library.
    """

    certificate: Text
    private_key: Text
    intermediates: Text | None = None
    passphrase_file: Text | None = None
    pkcs11_module: Text | None = None
    renew: RenewSettings | None = None


class RolesAnywhereSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[roles_anywhere]`: the exchange of the identity for credentials; `session_duration` in seconds."""

    region: _Region
    trust_anchor_arn: _Anchor
    profile_arn: _Profile
    session_duration: Annotated[int, Meta(ge=900, le=43200)] = 3600  # the bounds of CreateSession
    endpoint: Endpoint | None = None
    role_session_name: _Session | None = None
