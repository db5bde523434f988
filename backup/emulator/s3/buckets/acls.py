"""Access control lists: always full control for the owner, and no other grants.

Source: S3 User Guide (about-object-ownership): in a bucket with BucketOwnerEnforced, as all new ones are,
ACLs can be read, and neither set nor sent along.
"""

from __future__ import annotations

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.call import S3Call, need_object
from backup.emulator.s3.xml import DECLARATION, NAMESPACE

from .buckets import owner_id
from .documents import xml_answer


def get_acl(call: S3Call, tx: Transaction) -> Answer:
    """The list of a bucket or object: full control for the owner, no other grants."""
    if call.key:
        need_object(call, tx)
    owner = owner_id(call.at.account_id)
    grantee = (
        f'<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"<ID>{owner}</ID></Grantee>"
    )
    body = (
        f'{DECLARATION}<AccessControlPolicy xmlns="{NAMESPACE}"><Owner><ID>{owner}</ID></Owner>'
        f"<AccessControlList><Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"
        "</AccessControlList></AccessControlPolicy>"
    )
    return xml_answer(body.encode())


def put_acl(call: S3Call, tx: Transaction) -> Answer:
    """Raise 400: the bucket does not allow ACLs."""
    if call.key:
        need_object(call, tx)
    raise S3Error("AccessControlListNotSupported")
