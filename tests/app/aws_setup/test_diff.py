"""From any half of a set-up the steps lead to the whole one, and from any to nothing: a law, without AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.app.aws_setup.absorb import after
from backup.app.aws_setup.diff import to_destroy, to_make
from backup.app.aws_setup.documents import AwsSetup, BucketSetup, documents
from backup.app.aws_setup.model import Found, FoundPlace, Plan, Step, Verb, Wanted, WantedBucket, WantedRole
from backup.app.aws_setup.words import summary

ANYWHERE = "arn:aws:rolesanywhere:eu-central-1:123456789012"
ARNS = tuple(f"arn:aws:iam::123456789012:role/n-{purpose}" for purpose in ("backup", "restore", "prune"))
BUCKET = BucketSetup("n-123456789012-eu-central-1-an", "", "DEEP_ARCHIVE", "STANDARD")
SETUP = AwsSetup(
    *("aws", "eu-central-1", "123456789012", "nightly", f"{ANYWHERE}:trust-anchor/NEW", ARNS, 3600),
    bucket=BUCKET,
)
MADE = documents(SETUP)
ROLES = tuple(
    WantedRole(
        arn.rpartition("-")[2], arn.rpartition("/")[2], arn, MADE[arn.rpartition("-")[2]], "web1", "OU"
    )
    for arn in ARNS
)
OF_BUCKET = Wanted(
    "n", SETUP, "eu-central-1", "PEM one", ROLES, 3600, False,
    bucket=WantedBucket(BUCKET.name, "eu-central-1", MADE["bucket"], versioning=True, owner="123456789012"),
)  # fmt: skip
OF_VAULT = replace(OF_BUCKET, bucket=None, vault="nightly", crl="CRL")
WANTED = st.sampled_from([OF_BUCKET, OF_VAULT])
NOTED = replace(OF_VAULT, is_noted=True)


def answer_to(step: Step, number: int) -> dict[str, Any]:
    """What AWS would answer: as much of it as is used."""
    given = dict(step.parameters)
    if step.service == "iam":
        return {"Role": {"Arn": f"arn:aws:iam::123456789012:role/{step.name}"}}
    if step.service != "rolesanywhere":
        return {}
    kind, key = {
        "trust anchor": ("trustAnchor", "trust-anchor"),
        "profile": ("profile", "profile"),
        "revocation list": ("crl", "crl"),
    }[step.kind]
    ident = given.pop(f"{kind}Id", None) or f"{kind}-{number}"
    enabled = not step.operation.startswith("disable")
    values: dict[str, Any] = {"source": {"sourceData": {"x509CertificateData": "PEM one"}}, "crlData": b"CRL"}
    values |= {
        "trustAnchorArn": f"{ANYWHERE}:trust-anchor/{given.get('trustAnchorArn', '').rpartition('/')[2]}"
    }
    values |= {"roleArns": list(ARNS), "durationSeconds": 3600, "acceptRoleSessionName": False}
    return {
        kind: {
            **values,
            **given,
            f"{kind}Id": ident,
            f"{kind}Arn": f"{ANYWHERE}:{key}/{ident}",
            "enabled": enabled,
        }
    }


def carried_out(planner: Callable[[Wanted, Found], Plan], wanted: Wanted, found: Found, most: int) -> Found:
    """The state after at most so many steps."""
    for number in range(most):
        steps = planner(wanted, found).steps
        if not steps:
            break
        json.dumps(dict(steps[0].parameters), default=str)
        if steps[0].service == "s3" and steps[0].operation != "create_bucket":
            assert steps[0].parameters["ExpectedBucketOwner"] == "123456789012"
        found = after(found, steps[0], answer_to(steps[0], number))
    return found


@given(WANTED | st.just(NOTED), st.integers(0, 30))
def test_from_any_half_to_the_whole_and_to_nothing(wanted: Wanted, cut: int) -> None:
    half = carried_out(to_make, wanted, Found(), cut)
    whole = carried_out(to_make, wanted, half, 100)
    assert to_make(wanted, whole) == Plan(())
    assert (len(whole.anchors), len(whole.profiles), len(whole.roles)) == (1, 1, 3)
    left = carried_out(to_destroy, wanted, half, 100)
    untagged = half.place is not None and not half.place.is_ours and not wanted.is_noted
    assert left == (Found(place=half.place) if untagged else Found()), (
        "a vault without a tag may be anybody's"
    )
    assert not to_destroy(wanted, left).steps


@given(WANTED)
def test_what_holds_something_or_is_not_ours_is_left(wanted: Wanted) -> None:
    whole = carried_out(to_make, wanted, Found(), 100)
    assert whole.place is not None
    full = replace(whole, place=replace(whole.place, holds=True))
    plan = to_destroy(wanted, full)
    assert "not empty" in plan.left[0]
    assert not [step for step in plan.steps if step.service in ("s3", "glacier")]
    foreign = replace(whole, place=FoundPlace(is_ours=False, holds=False))
    assert "does not carry the tag" in to_destroy(wanted, foreign).left[0]
    role = replace(whole.roles["n-prune"], is_ours=False)
    stranger = replace(whole, roles={**whole.roles, "n-prune": role})
    assert to_make(wanted, stranger).obstacles
    assert "n-prune" not in {step.name for step in to_destroy(wanted, stranger).steps}


@pytest.mark.parametrize("wanted", [OF_VAULT, OF_BUCKET], ids=["vault", "bucket"])
def test_what_is_made_is_not_counted_as_changed(wanted: Wanted) -> None:
    plan = to_make(wanted, Found())
    made = sum(step.verb is Verb.MAKE for step in plan.steps)
    assert made < len(plan.steps)
    assert summary(plan) == f"{made} to make"
    whole = carried_out(to_make, wanted, Found(), 100)
    shorter = to_make(replace(wanted, seconds=wanted.seconds - 1), whole)
    assert summary(shorter) == "1 to change"


def test_who_loses_access_is_said() -> None:
    """A set-up of the same name for another server takes the roles from the first."""
    whole = carried_out(to_make, OF_VAULT, Found(), 100)
    of_another = [replace(role, common_name="web2") for role in ROLES]
    plan = to_make(replace(OF_VAULT, roles=tuple(of_another)), whole)
    assert {step.operation for step in plan.steps} == {"update_assume_role_policy"}
    assert {step.words for step in plan.steps} == {
        "who may assume it is set right: CN=web2, OU=OU; no more CN=web1"
    }


def test_what_aws_writes_in_another_way_is_no_change() -> None:
    """Lists in another order, and a list of one as it."""
    whole = carried_out(to_make, OF_BUCKET, Found(), 100)
    assert whole.place is not None
    policy = json.loads(json.dumps(MADE["bucket"]))
    for statement in policy["Statement"]:
        if len(statement["Action"]) == 1:
            (statement["Action"],) = statement["Action"]
        if isinstance(statement["Resource"], list):
            statement["Resource"].reverse()
    written = replace(whole.place, settings={**whole.place.settings, "policy": policy})
    assert to_make(OF_BUCKET, replace(whole, place=written)) == Plan(())
    policy["Statement"][0]["Effect"] = "Allow"
    (step,) = to_make(OF_BUCKET, replace(whole, place=written)).steps
    assert step.operation == "put_bucket_policy"


def test_a_vault_of_another_set_up_is_not_taken() -> None:
    """It is used as it is, though it is empty; and not deleted with this set-up."""
    theirs = Found(place=FoundPlace(is_ours=False, holds=False, is_others=True))
    assert [step for step in to_make(OF_VAULT, theirs).steps if step.service == "glacier"] == []
    assert to_destroy(OF_VAULT, theirs).steps == ()


@pytest.mark.parametrize(
    "place",
    [
        FoundPlace(is_ours=False, holds=False, is_others=True),
        FoundPlace(is_ours=False, holds=True),
        FoundPlace(is_ours=True, holds=True),
    ],
)
def test_a_note_does_not_make_anothers_or_a_full_vault_ours(place: FoundPlace) -> None:
    plan = to_destroy(NOTED, Found(place=place))
    assert plan.steps == ()
    assert "vault nightly" in plan.left[0]


def test_a_vault_beside_it_in_the_config_is_an_obstacle() -> None:
    plan = to_make(replace(OF_VAULT, others=("warm",)), Found())
    assert "would cut warm off" in plan.obstacles[0]
