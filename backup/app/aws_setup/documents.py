"""The JSON documents that AWS needs, made from a setup without any I/O.

Sources: the service authorization pages of Amazon S3 Glacier, IAM and IAM Roles Anywhere; the trust model
page of IAM Roles Anywhere for the role's trust policy. Nothing may delete but the prune role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from backup.format.host_report import REPORTS
from backup.vault.s3.answers import FROZEN

Document = Mapping[str, object]

_REMAINING = "s3:object-lock-remaining-retention-days"

TAG = "nightvault:setup"
"""The key of the tag by which a set-up knows its own things; the value is the set-up's name."""

OWN_NAME = "${aws:PrincipalTag/x509Subject/CN}"
"""The policy variable with the common name of the certificate that a session was got with."""

UPLOAD_ACTIONS = (
    "glacier:DescribeVault",
    "glacier:InitiateMultipartUpload",
    "glacier:UploadMultipartPart",
    "glacier:CompleteMultipartUpload",
    "glacier:AbortMultipartUpload",
    "glacier:ListMultipartUploads",
    "glacier:ListParts",
)
BUCKET_ACTIONS = (
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:GetLifecycleConfiguration",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
)
ROLE_ACTIONS = (
    *("iam:CreateRole", "iam:GetRole", "iam:DeleteRole", "iam:TagRole", "iam:UpdateAssumeRolePolicy"),
    *("iam:PutRolePolicy", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:DeleteRolePolicy"),
    "iam:ListAttachedRolePolicies",
)
OLD_ROLE_ACTIONS = (
    *("iam:GetRole", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies"),
    *("iam:DeleteRolePolicy", "iam:DeleteRole"),
)
"""The actions on roles that a set-up made and the config does not use any more."""

PLACE_ACTIONS: Mapping[str, Sequence[str]] = {
    "glacier": (
        *("glacier:CreateVault", "glacier:DescribeVault", "glacier:DeleteVault"),
        *("glacier:AddTagsToVault", "glacier:ListTagsForVault"),
    ),
    "s3": (
        *("s3:CreateBucket", "s3:TagResource", "s3:ListBucket", "s3:ListBucketVersions"),
        *("s3:DeleteBucket", "s3:GetBucketTagging"),
        *("s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
        *("s3:GetBucketPolicy", "s3:PutBucketPolicy"),
        *("s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration"),
        *("s3:GetBucketVersioning", "s3:PutBucketVersioning"),
    ),
}
"""The actions that making, looking at and deleting a vault or bucket needs."""

_LOCK_THE_PLACE = ("s3:GetBucketObjectLockConfiguration", "s3:PutBucketObjectLockConfiguration")
DELETE_ACTIONS = ("glacier:GetVaultLock", "glacier:DeleteArchive")
LOCK_ACTIONS = tuple(f"glacier:{word}VaultLock" for word in ("Initiate", "Complete", "Abort", "Get"))
_LISTING_ACTIONS = ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads")
JOB_ACTIONS = ("glacier:InitiateJob", "glacier:DescribeJob", "glacier:ListJobs", "glacier:GetJobOutput")


class BucketSetup(Struct, frozen=True):
    """The bucket, prefix and storage classes of an S3 vault; `is_plain`: its endpoint is plain HTTP.

    `lock_mode`: that of its locks, as S3 has it; None where nothing is locked. `lock_days`: for how long
    anybody may lock at most. `compares`: its service deletes by ETags, and its policies can ask for them.
    `tells`: a center is told by objects in it.
    """

    name: str
    prefix: str
    storage_class: str
    catalog_class: str
    is_plain: bool = False
    lock_mode: str | None = None
    lock_days: int = 0
    compares: bool = True
    tells: bool = False


class AwsSetup(Struct, frozen=True):
    """The values that the documents are made from; a value that is not known yet is a word in capitals.

    `common_name` and `unit` are the certificate's, as session tags have them; None where there is no
    certificate. `is_shared`: the roles are for all servers with that unit, each of which has a part of its
    own: of a bucket the keys below its name, of Glacier the vault `OWN_NAME` if `vault` says so.
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
    bucket: BucketSetup | None = None  # of an S3 vault
    is_shared: bool = False

    @property
    def vault_arn(self) -> str:
        """The Glacier vault's ARN."""
        return f"arn:{self.partition}:glacier:{self.region}:{self.account}:vaults/{self.vault}"

    @property
    def bucket_arn(self) -> str:
        """The bucket's ARN."""
        return f"arn:{self.partition}:s3:::{self.bucket.name if self.bucket else ''}"

    def keys_arn(self, below: str) -> str:
        """Return the ARN of all keys that begin with `below`; of a shared role, of the server's own keys."""
        prefix = f"{OWN_NAME}/" if self.is_shared else self.bucket.prefix if self.bucket else ""
        return f"{self.bucket_arn}/{prefix}{below}*"

    def any_keys_arn(self, below: str) -> str:
        """Same as `keys_arn` for all servers: a Deny must not depend on a tag, which a caller may lack."""
        return f"{self.bucket_arn}/*/{below}*" if self.is_shared else self.keys_arn(below)


def documents(setup: AwsSetup) -> Mapping[str, Document]:
    """All documents by their names, in the order in which they are needed."""
    made = {"trust-anchor": setup_policy(setup), "trust": trust_policy(setup)}
    if setup.bucket is not None:
        made |= s3_policies(setup, setup.bucket)
    else:
        made |= {
            "backup": backup_policy(setup),
            "restore": _policy(_allow("Retrieve", ("glacier:DescribeVault", *JOB_ACTIONS), setup.vault_arn)),
            "copy": _policy(_allow("ReadPacks", JOB_ACTIONS, setup.vault_arn)),
            "prune": prune_policy(setup),
            "keeper": keeper_policy(setup),
            "vault-lock": _policy(_allow("Lock", ("glacier:DescribeVault", *LOCK_ACTIONS), setup.vault_arn)),
        }
    return {**made, "profile": profile_input(setup)}


def setup_policy(setup: AwsSetup) -> Document:
    """The policy of the admin who sets this up and removes it again, by `setup aws` or by hand.

    It is an administrator's right: whoever can write roles and their trust policies can assume any role.
    """
    region = setup.trust_anchor_arn.split(":")[3]  # which may be another than the vault's
    anywhere = f"arn:{setup.partition}:rolesanywhere:{region}:{setup.account}"
    kinds = ("TrustAnchor", "Profile", "Crl")
    words = ("Update", "Enable", "Disable", "Delete", "Get")
    lists = [f"rolesanywhere:List{kind}s" for kind in kinds]
    make = ("rolesanywhere:CreateTrustAnchor", "rolesanywhere:CreateProfile", "rolesanywhere:ImportCrl")
    change = [f"rolesanywhere:{word}{kind}" for kind in kinds for word in words]
    tags = ("rolesanywhere:TagResource", "rolesanywhere:ListTagsForResource")
    things = [f"{anywhere}:{kind}/*" for kind in ("trust-anchor", "profile", "crl")]
    hand_over = {
        **_allow("HandTheRolesToProfiles", ("iam:PassRole",), list(setup.role_arns)),
        "Condition": {"StringEquals": {"iam:PassedToService": "rolesanywhere.amazonaws.com"}},
    }
    has_tag = {"Condition": {"StringLike": {f"aws:ResourceTag/{TAG}": "*"}}}
    any_role = f"arn:{setup.partition}:iam::{setup.account}:role/*"
    return _policy(
        _allow("MakeTrustAnchorsAndProfiles", (*make, *lists), "*"),  # AWS knows no resource for these
        _allow("ChangeThem", (*change, *tags), things),
        _allow("MakeTheRoles", ROLE_ACTIONS, list(setup.role_arns)),
        _allow("FindRolesOfBefore", ("iam:ListRoles",), "*"),
        {**_allow("TakeRolesOfBeforeAway", OLD_ROLE_ACTIONS, any_role), **has_tag},
        hand_over,
        _allow("FindBucketsOfBefore", ("s3:ListAllMyBuckets", "s3:GetBucketTagging"), "*"),
        _allow("FindVaultsOfBefore", ("glacier:ListVaults", "glacier:ListTagsForVault"), "*"),
        *_make_the_place(setup),
    )


def _make_the_place(setup: AwsSetup) -> list[Document]:
    if setup.bucket is None:
        return [_allow("MakeThePlace", PLACE_ACTIONS["glacier"], setup.vault_arn)]
    locks = _LOCK_THE_PLACE if setup.bucket.lock_mode is not None else ()
    return [_allow("MakeThePlace", (*PLACE_ACTIONS["s3"], *locks), setup.bucket_arn)]


def trust_policy(setup: AwsSetup) -> Document:
    """The roles' trust policy: this certificate's subject may assume them, by this trust anchor alone.

    A shared role goes by the unit alone.

    All three actions are needed. Without the conditions every certificate below the CA, and of every other
    trust anchor of the account, may assume the role.
    """
    tags = {"CN": None if setup.is_shared else setup.common_name, "OU": setup.unit}
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
    """The backup role: uploads, creating the vault for `init`, and its listing, needed after a power cut.

    IAM has one action for listings and retrievals, so an intruder on the server can request retrievals at
    your cost, but can neither decrypt nor delete anything.
    """
    return _policy(
        _allow("Upload", UPLOAD_ACTIONS, setup.vault_arn),
        _allow("MakeTheVault", ("glacier:CreateVault",), setup.vault_arn),
        _allow("AskForListings", JOB_ACTIONS, setup.vault_arn),
    )


def prune_policy(setup: AwsSetup) -> Document:
    """The prune role, which deletes archives; the nightly backup does not have it.

    It reads the vault's lock, to say until when an archive is kept. It neither lists nor stores: prune uses a
    list that the backup role requested.
    """
    return _policy(_allow("DeleteArchives", DELETE_ACTIONS, setup.vault_arn))


def keeper_policy(setup: AwsSetup) -> Document:
    """The role of a keeper, which deletes in place of servers: it may also request listings and catalogs."""
    return _policy(
        _allow("DeleteArchives", ("glacier:DescribeVault", *DELETE_ACTIONS), setup.vault_arn),
        _allow("AskForListings", JOB_ACTIONS, setup.vault_arn),
    )


def s3_policies(setup: AwsSetup, bucket: BucketSetup) -> Mapping[str, Document]:
    """The documents for a bucket: its roles, and a bucket policy that binds even those who may do more.

    The backup role can neither read nor delete: it sees by the bucket's list what it wrote. The restore role
    reads and retrieves; that of copies packs alone. The prune role sees which version of an object there is,
    and until when it is locked; HeadObject, which tells that, is a right to read. A keeper retrieves catalogs
    besides. Restores see versions; where objects are locked all do, backups lock what they store, and one
    more role, which sees rules, locks for longer; none for more than `lock_days`. Who renews in place of
    servers reads catalogs. Source: service authorization reference of Amazon S3, and its user guide.
    """
    data, meta = setup.keys_arn("data/"), setup.keys_arn("meta/")
    versions = () if bucket.lock_mode is None else ("s3:ListBucketVersions",)
    reads = ("s3:GetObject", *(() if bucket.lock_mode is None else ("s3:GetObjectVersion",)))
    lock = [] if bucket.lock_mode is None else [_lock(bucket, [data, meta])]
    look = _looks(setup, (*BUCKET_ACTIONS, *versions))
    make = _allow("MakeTheBucket", ("s3:CreateBucket",), setup.bucket_arn)
    uploads = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
    upload = _allow("Upload", uploads, [data, meta])
    listing = _looks(setup, ("s3:ListBucket", "s3:ListBucketVersions"), "List")
    retrieve = ("s3:GetObject", "s3:GetObjectVersion", "s3:RestoreObject")
    packs = retrieve if bucket.storage_class in FROZEN else retrieve[:-1]
    locks = (*reads, "s3:GetObjectRetention", "s3:GetObjectLegalHold")
    delete = (*locks, "s3:DeleteObject", "s3:DeleteObjectVersion")
    look_to_prune = _looks(setup, ("s3:ListBucket", *versions, "s3:GetBucketVersioning"))
    look_to_lock = _looks(setup, ("s3:ListBucket", *versions, "s3:GetLifecycleConfiguration"))
    see_locks = _allow("SeeLocks", ("s3:GetObjectRetention",), [data, meta])
    renewing = (*look_to_lock, see_locks, *lock)
    elsewhere = (*renewing, _allow("ReadCatalogs", reads, meta))
    tell = [_allow("TellTheCenter", ("s3:PutObject",), setup.keys_arn(REPORTS))] if bucket.tells else []
    return {
        "backup": _policy(*look, make, upload, *lock, *tell),
        "restore": _policy(*listing, _allow("Retrieve", retrieve, [data, meta])),
        "copy": _policy(*listing, _allow("ReadPacks", packs, data)),
        "prune": _policy(*look_to_prune, _allow("DeleteArchives", delete, [data, meta])),
        "keeper": _policy(
            *look_to_prune,
            _allow("DeleteArchives", delete, [data, meta]),
            _allow("ReadCatalogs", ("s3:RestoreObject",), meta),
        ),
        **({"lock": _policy(*renewing), "keeper-lock": _policy(*elsewhere)} if lock else {}),
        **persons_policies(setup, data, meta, locks=bool(lock)),
        **({"center": center_policy(setup)} if tell else {}),
        "bucket": bucket_policy(setup, bucket),
    }


def persons_policies(setup: AwsSetup, data: str, meta: str, *, locks: bool) -> Mapping[str, Document]:
    """A person's permissions: to take back by versions, which deletes what is not locked; to end holds."""
    look = _looks(setup, ("s3:ListBucket", "s3:ListBucketVersions"), "List")
    tags = ("s3:GetObjectVersionTagging", "s3:DeleteObjectVersionTagging")
    take_back = _allow("TakeBack", ("s3:DeleteObjectVersion", *tags), [data, meta])
    sees = ("s3:GetObjectVersion", "s3:GetObjectLegalHold")[: 1 + locks]
    undelete = _policy(*look, take_back, _allow("ProveOurs", sees, [data, meta]))
    hold = _policy(*look, _allow("Hold", ("s3:PutObjectLegalHold",), [data, meta]))
    return {"undelete": undelete, **({"legal-hold": hold} if locks else {})}


def center_policy(setup: AwsSetup) -> Document:
    """The role of a center that is told through a bucket: it lists names, and reads what servers tell."""
    reports = [f"{setup.bucket_arn}/{REPORTS}*", f"{setup.bucket_arn}/*/{REPORTS}*"]
    listing = _allow("FindReports", ("s3:ListBucket",), setup.bucket_arn)
    return _policy(listing, _allow("ReadReports", ("s3:GetObject",), reports))


def _lock(bucket: BucketSetup, keys: Sequence[str]) -> Document:
    """The right to lock objects, for no more than was meant."""
    most = {"NumericLessThanEquals": {_REMAINING: str(bucket.lock_days)}}
    return {**_allow("Lock", ("s3:PutObjectRetention",), keys), "Condition": most}


def _looks(setup: AwsSetup, actions: Sequence[str], sid: str = "LookAtTheBucket") -> list[Document]:
    """The statement for calls about the bucket; a shared role lists only below the server's own name."""
    if not setup.is_shared:
        return [_allow(sid, actions, setup.bucket_arn)]
    listing = [action for action in actions if action in _LISTING_ACTIONS]
    others = [action for action in actions if action not in _LISTING_ACTIONS]
    own = {"Condition": {"StringLike": {"s3:prefix": f"{OWN_NAME}/*"}}}
    found: list[Document] = [{**_allow("ListItsOwn", listing, setup.bucket_arn), **own}]
    return found + ([_allow(sid, others, setup.bucket_arn)] if others else [])


def bucket_policy(setup: AwsSetup, bucket: BucketSetup) -> Document:
    """The bucket policy: nobody may use another class, overwrite an object, delete one without its ETag or
    version, or send requests in the clear.

    Where objects are locked, nobody locks for longer or otherwise than was meant, and nobody ends a lock: who
    may change this policy takes that statement out first. A stricter lock of before is renewed as it is.

    S3 asks for a condition on writing once an upload is completed; its beginning and its parts name none.
    """
    data, meta = setup.any_keys_arn("data/"), setup.any_keys_arn("meta/")
    reports = [setup.any_keys_arn(REPORTS)] if bucket.tells else []

    def only_class(sid: str, keys: str, wanted: str) -> Document:
        condition: dict[str, object] = {"StringNotEquals": {"s3:x-amz-storage-class": wanted}}
        condition["Null"] = {"s3:x-amz-storage-class": "false"}
        return _deny(sid, ("s3:PutObject",), keys, condition)

    completed = {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}
    named = _deny("DeleteByETag", ("s3:DeleteObject",), [data, meta], {"Null": {"s3:if-match": "true"}})
    clear = {"Bool": {"aws:SecureTransport": "false"}}
    everything = [setup.bucket_arn, f"{setup.bucket_arn}/*"]
    return _policy(
        only_class("DataInTheirClass", data, bucket.storage_class),
        only_class("CatalogsReadable", meta, bucket.catalog_class),
        *(only_class("ReportsReadable", keys, "STANDARD") for keys in reports),
        _deny("NeverOverwrite", ("s3:PutObject",), [data, meta, *reports], completed),
        *([named] if bucket.compares else []),
        *_locks_denied(bucket, [data, meta]),
        *([] if bucket.is_plain else [_deny("NothingInTheClear", ("s3:*",), everything, clear)]),
    )


def _locks_denied(bucket: BucketSetup, keys: Sequence[str]) -> list[Document]:
    if bucket.lock_mode is None:
        return []
    locking = ("s3:PutObject", "s3:PutObjectRetention")
    in_one_mode = locking if bucket.lock_mode == "COMPLIANCE" else locking[:1]  # else stricter ones run out
    beyond = {"NumericGreaterThan": {_REMAINING: str(bucket.lock_days)}}
    other = {
        "StringNotEquals": {"s3:object-lock-mode": bucket.lock_mode},
        "Null": {"s3:object-lock-mode": "false"},
    }
    return [
        _deny("NoLongerLocks", locking, keys, beyond),
        _deny("NoOtherLocks", in_one_mode, keys, other),
        _deny("NobodyEndsLocks", ("s3:BypassGovernanceRetention",), keys, {}),
    ]


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


def _deny(
    sid: str, actions: Sequence[str], resource: str | Sequence[str], condition: Mapping[str, object]
) -> Document:
    denied = {"Sid": sid, "Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": resource}
    return {**denied, "Condition": condition} if condition else denied


def _allow(sid: str, actions: Sequence[str], resource: str | Sequence[str]) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
