"""The JSON documents that AWS asks for; pure: a setup in, documents out.

Sources: the service authorization pages of Amazon S3 Glacier, IAM and IAM Roles Anywhere; the trust model
page of IAM Roles Anywhere for the role's trust policy. Nothing may delete but the prune role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Document = Mapping[str, object]

UPLOAD_ACTIONS = (
    "glacier:DescribeVault",
    "glacier:InitiateMultipartUpload",
    "glacier:UploadMultipartPart",
    "glacier:CompleteMultipartUpload",
    "glacier:AbortMultipartUpload",
    "glacier:ListMultipartUploads",
    "glacier:ListParts",
)
JOB_ACTIONS = ("glacier:InitiateJob", "glacier:DescribeJob", "glacier:ListJobs", "glacier:GetJobOutput")


@dataclass(frozen=True, slots=True)
class AwsSetup:
    """What the documents need to know; whatever is not known yet stands there as a word in capitals.

    `common_name` and `unit` are the certificate's, as session tags have them; None where there is no
    certificate.
    """

    partition: str
    region: str
    account: str
    vault: str
    trust_anchor_arn: str
    role_arns: Sequence[str]  # of all roles that the profile is for
    session_duration: int
    common_name: str | None = None
    unit: str | None = None

    @property
    def vault_arn(self) -> str:
        """The vault's ARN."""
        return f"arn:{self.partition}:glacier:{self.region}:{self.account}:vaults/{self.vault}"


def documents(setup: AwsSetup) -> Mapping[str, Document]:
    """All documents by their names, in the order in which they are needed."""
    return {
        "trust-anchor": setup_policy(setup),
        "trust": trust_policy(setup),
        "backup": backup_policy(setup),
        "restore": restore_policy(setup),
        "prune": prune_policy(setup),
        "profile": profile_input(setup),
    }


def setup_policy(setup: AwsSetup) -> Document:
    """What the person who sets this up must be allowed: trust anchors, profiles, and handing roles to
    them."""
    region = setup.trust_anchor_arn.split(":")[3]  # which may be another than the vault's
    anywhere = f"arn:{setup.partition}:rolesanywhere:{region}:{setup.account}"
    anchors = _allow(
        "MakeTrustAnchorsAndProfiles",
        (
            "rolesanywhere:CreateTrustAnchor",
            "rolesanywhere:GetTrustAnchor",
            "rolesanywhere:ListTrustAnchors",
            "rolesanywhere:UpdateTrustAnchor",
            "rolesanywhere:EnableTrustAnchor",
            "rolesanywhere:DisableTrustAnchor",
            "rolesanywhere:CreateProfile",
            "rolesanywhere:GetProfile",
            "rolesanywhere:ListProfiles",
            "rolesanywhere:UpdateProfile",
            "rolesanywhere:EnableProfile",
            "rolesanywhere:DisableProfile",
            "rolesanywhere:ImportCrl",
            "rolesanywhere:UpdateCrl",
            "rolesanywhere:ListCrls",
        ),
        f"{anywhere}:*",
    )
    roles = _allow(
        "MakeTheRoles",
        ("iam:CreateRole", "iam:GetRole", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy"),
        list(setup.role_arns),
    )
    hand_over = {
        **_allow("HandTheRolesToProfiles", ("iam:PassRole",), list(setup.role_arns)),
        "Condition": {"StringEquals": {"iam:PassedToService": "rolesanywhere.amazonaws.com"}},
    }
    return _policy(anchors, roles, hand_over)


def trust_policy(setup: AwsSetup) -> Document:
    """Who may assume the roles: this certificate's subject, by way of this trust anchor alone.

    All three actions are needed. Without the conditions every certificate below the CA, and of every other
    trust anchor of the account, may assume the role.
    """
    tags = {"CN": setup.common_name, "OU": setup.unit}
    wanted = {
        f"aws:PrincipalTag/x509Subject/{name}": value for name, value in tags.items() if value is not None
    }
    conditions: dict[str, object] = {"ArnEquals": {"aws:SourceArn": setup.trust_anchor_arn}}
    if wanted:
        conditions["StringEquals"] = wanted
    return _policy(
        {
            "Sid": "CertificatesOfOurAuthority",
            "Effect": "Allow",
            "Principal": {"Service": "rolesanywhere.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": conditions,
        }
    )


def backup_policy(setup: AwsSetup) -> Document:
    """Uploads, the vault itself for `init`, and the vault's listing, which closes the gap after a power cut.

    IAM cannot tell a listing from a retrieval: with this a thief on the server can have sealed bytes
    retrieved, at your cost, but can open none and delete none.
    """
    return _policy(
        _allow("Upload", UPLOAD_ACTIONS, setup.vault_arn),
        _allow("MakeTheVault", ("glacier:CreateVault",), setup.vault_arn),
        _allow("AskForListings", JOB_ACTIONS, setup.vault_arn),
    )


def restore_policy(setup: AwsSetup) -> Document:
    """Retrievals and listings."""
    return _policy(_allow("Retrieve", ("glacier:DescribeVault", *JOB_ACTIONS), setup.vault_arn))


def prune_policy(setup: AwsSetup) -> Document:
    """Deleting archives: for a role that the nightly backup does not have."""
    actions = ("glacier:DescribeVault", "glacier:DeleteArchive")
    return _policy(_allow("DeleteArchives", actions, setup.vault_arn))


def profile_input(setup: AwsSetup) -> Document:
    """The input of CreateProfile (`aws rolesanywhere create-profile --cli-input-json`)."""
    return {
        "name": "nightvault",
        "roleArns": list(setup.role_arns),
        "durationSeconds": setup.session_duration,
        "enabled": True,
    }


def _policy(*statements: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, actions: Sequence[str], resource: str | Sequence[str]) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
