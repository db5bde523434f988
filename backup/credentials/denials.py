"""Explanations of AWS's refusals of CreateSession, with advice on what to check; pure.

The service's own texts are short and deliberately vague. The known ones here were reported by users of other
clients; an unknown one is passed on unchanged.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from backup.credentials.options import RolesAnywhereOptions
from backup.errors import DeniedError

NOTABLE_OFFSET = timedelta(seconds=60)


class AwsRefusal(Struct, frozen=True):
    """A refusal: AWS's code and text, and how far our clock is ahead, if the answer has a date."""

    status: int
    code: str
    text: str
    clock_ahead: timedelta | None = None


class _Meaning(Struct, frozen=True):
    needle: str  # in AWS's text, in lower case
    what: str
    advice: str


_MEANINGS = (
    _Meaning(
        "insufficient certificate",
        "AWS does not take this kind of certificate",
        "it needs key usage digitalSignature, extended key usage clientAuth and must be no CA: "
        "`nightvault identity show` tells, `nightvault ca issue` makes one",
    ),
    _Meaning("revoked", "the certificate has been revoked", "issue a new one: `nightvault ca issue`"),
    _Meaning(
        "untrusted signing certificate",
        "the certificate does not lead to the trust anchor {anchor}",
        "is it the anchor made from the CA that issued the certificate, and is every intermediate "
        "certificate in identity.intermediates?",
    ),
    _Meaning(
        "invalid signature",
        "AWS could not verify the signature of our request",
        "the key fits the certificate, so the request was changed on its way: is there a proxy in between, "
        "and is roles_anywhere.endpoint the host that is really contacted?",
    ),
    _Meaning(
        "isn't one of those listed in the profile",
        "the role {role} is not in the profile {profile}",
        "add the role to the profile (IAM Roles Anywhere, Profiles, Edit), or correct role_arn",
    ),
    _Meaning(
        "not authorized to set rolesessionname",
        "the profile {profile} does not let us choose the session's name",
        "allow custom role session names in the profile, or take role_session_name out of the config",
    ),
    _Meaning(
        "failed to be mapped into session tags",
        "AWS cannot turn the certificate's subject into session tags",
        "names may hold letters, digits, blanks and _ . : / = + - @ alone: issue a certificate with another "
        "subject",
    ),
    _Meaning(
        "maxsessionduration",
        "the role {role} does not allow sessions of {duration} s",
        "raise the role's maximum session duration, or lower roles_anywhere.session_duration",
    ),
    _Meaning(
        "unable to assume role",
        "the role {role} does not let this certificate in",
        "check the role's trust policy: the principal rolesanywhere.amazonaws.com, the actions "
        "sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity, and that its conditions "
        "(aws:SourceArn, aws:PrincipalTag/x509Subject/CN and OU) fit; "
        "`nightvault aws policy --only trust` prints one that does",
    ),
    _Meaning(
        "expired",
        "AWS says that something has expired",
        "`nightvault identity show` tells the certificate's dates",
    ),
    _Meaning(
        "disabled",
        "the trust anchor {anchor} or the profile {profile} is disabled",
        "enable it in the console of IAM Roles Anywhere",
    ),
    _Meaning(
        "not found",
        "AWS does not know the trust anchor {anchor} or the profile {profile}",
        "check the two ARNs in [roles_anywhere], their region and their account",
    ),
)


def denial(refusal: AwsRefusal, options: RolesAnywhereOptions) -> DeniedError:
    """The error for a refusal: its meaning, AWS's own text, and what to check."""
    words = f"{refusal.code}: {refusal.text}" if refusal.text else f"{refusal.code} (status {refusal.status})"
    meaning = _meaning(refusal)
    what = meaning.what.format(
        anchor=options.trust_anchor_arn,
        profile=options.profile_arn,
        role=options.role_arn,
        duration=options.session_duration,
    )
    return DeniedError(f"{what} ({words})", advice=_clock_advice(refusal.clock_ahead) or meaning.advice)


def _meaning(refusal: AwsRefusal) -> _Meaning:
    text = f"{refusal.code} {refusal.text}".lower().replace("resourcenotfound", "not found")
    return next(
        (meaning for meaning in _MEANINGS if meaning.needle in text),
        _Meaning(
            "", "AWS refused to give credentials", "`nightvault aws policy` prints what AWS must be told"
        ),
    )


def _clock_advice(ahead: timedelta | None) -> str:
    """Advice to set the clock if it is wrong: it replaces all other advice, which would then be doubtful."""
    if ahead is None or abs(ahead) <= NOTABLE_OFFSET:
        return ""
    seconds = round(abs(ahead).total_seconds())
    side = "ahead of" if ahead > timedelta() else "behind"
    return f"this machine's clock is {seconds} s {side} the server's: set the clock (NTP) and try again"
