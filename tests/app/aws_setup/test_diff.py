"""From any half of a set-up the steps lead to the whole one, and from any to nothing: a law, without AWS.

So they do where AWS shows late what was done, and where answers are lost.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.app.aws_setup.calls import AwsCalls, GoneError
from backup.app.aws_setup.carry_out import LOOKS, Planner, carry_out
from backup.app.aws_setup.describe import summary
from backup.app.aws_setup.diff import to_destroy, to_make
from backup.app.aws_setup.documents import AwsSetup, BucketSetup, documents
from backup.app.aws_setup.look import VaultSetup
from backup.app.aws_setup.model import (
    FoundAnchor,
    FoundCrl,
    FoundPlace,
    FoundProfile,
    FoundResources,
    FoundRole,
    Plan,
    PlannedCall,
    Verb,
    Wanted,
    WantedBucket,
    WantedRole,
)
from backup.errors import VaultError
from tests.support.clocks import OffsetClock

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


NOTHING = FoundResources()


class Account:
    """An account as far as a set-up uses it: what is in it after each call, and how late it is shown."""

    def __init__(
        self, found: FoundResources = NOTHING, *, lags: Iterable[tuple[int, ...]] = (), loses: int = -1
    ) -> None:
        self.states = [found]
        self.steps: list[PlannedCall] = []
        self.made = Counter[str]()
        self._lags, self._loses = iter(lags), loses

    @property
    def found(self) -> FoundResources:
        """What is there."""
        return self.states[-1]

    def call(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """One call: its effect, and as much of the answer as is used."""
        json.dumps(parameters, default=str)
        if service == "s3" and operation != "create_bucket":
            assert parameters["ExpectedBucketOwner"] == "123456789012"
        self.made[operation] += 1
        effect = {"iam": self._roles, "rolesanywhere": self._anywhere}.get(service, self._place)
        answer, after = effect(operation, parameters)
        self.states.append(after)
        if len(self.states) - 2 == self._loses:
            raise GoneError("the answer was lost")
        return answer

    def look(self, part: VaultSetup) -> None:
        """Put what is there into a part; each kind of thing as it was some calls ago."""
        lags = next(self._lags, (0, 0, 0, 0))
        shown = [self.states[max(0, len(self.states) - 1 - lag)] for lag in lags]
        part.found = FoundResources(
            anchors=shown[0].anchors, crls=shown[0].crls, profiles=shown[1].profiles, roles=shown[2].roles,
            place=shown[3].place,
        )  # fmt: skip

    def _anywhere(self, operation: str, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], FoundResources]:
        verb, _, kind = operation.partition("_")
        member, key, field = {
            "trust_anchor": ("trustAnchor", "trust-anchor", "anchors"),
            "profile": ("profile", "profile", "profiles"),
            "crl": ("crl", "crl", "crls"),
        }[kind]
        known = getattr(self.found, field)
        ident = given.get(f"{member}Id") or f"{member}-{len(self.states)}"
        arn = f"{ANYWHERE}:{key}/{ident}"
        old = next((thing for thing in known if thing.id == ident), None)
        new: Any = old
        if verb in ("disable", "enable"):
            new = replace(new, enabled=verb == "enable")
        elif verb == "delete":
            assert old is not None
        elif kind == "trust_anchor":
            new = FoundAnchor(ident, arn, given["source"]["sourceData"]["x509CertificateData"], True)
        elif kind == "profile":
            arns, seconds = tuple(given["roleArns"]), given["durationSeconds"]
            new = FoundProfile(ident, arn, arns, seconds, given["acceptRoleSessionName"], True)
        else:
            new = FoundCrl(ident, given.get("trustAnchorArn", ""), given.get("crlData", b"").decode(), True)
        rest = [thing for thing in known if thing.id != ident]
        after = rest if verb == "delete" else [new if thing is old else thing for thing in known]
        after += [new] if old is None else []
        answer = {member: {f"{member}Id": ident, f"{member}Arn": arn}}
        return answer, replace(self.found, **{field: tuple(after)})

    def _roles(self, operation: str, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], FoundResources]:
        name, roles = given["RoleName"], dict(self.found.roles)
        if operation == "create_role":
            assert name not in roles
            trust = json.loads(given["AssumeRolePolicyDocument"])
            roles[name] = FoundRole(name, f"arn:aws:iam::123456789012:role/{name}", trust, {}, is_ours=True)
        elif operation == "delete_role":
            assert not roles.pop(name).policies
        elif operation == "update_assume_role_policy":
            roles[name] = replace(roles[name], trust=json.loads(given["PolicyDocument"]))
        else:
            policies = {
                key: policy for key, policy in roles[name].policies.items() if key != given["PolicyName"]
            }
            if operation == "put_role_policy":
                policies[given["PolicyName"]] = json.loads(given["PolicyDocument"])
            roles[name] = replace(roles[name], policies=policies)
        return {}, replace(self.found, roles=roles)

    def _place(self, operation: str, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], FoundResources]:
        place = self.found.place
        if operation.startswith("create"):
            assert place is None
            place = FoundPlace(is_ours=operation == "create_bucket", holds=False)
        elif operation.startswith("delete"):
            place = None
        else:
            assert place is not None
            setting, value = SETTINGS.get(operation, ("", ""))
            kept = {setting: given[value]} if setting else {}
            if setting == "policy":
                kept = {setting: json.loads(given[value])}
            place = replace(place, is_ours=True, settings={**place.settings, **kept})
        return {}, replace(self.found, place=place)


SETTINGS = {
    "put_public_access_block": ("block", "PublicAccessBlockConfiguration"),
    "put_bucket_policy": ("policy", "Policy"),
    "put_bucket_lifecycle_configuration": ("lifecycle", "LifecycleConfiguration"),
    "put_bucket_versioning": ("versioning", "VersioningConfiguration"),
}


class CutError(Exception):
    """The process is killed."""


def carried_out(planner: Planner, wanted: Wanted, account: Account, most: int = 1000) -> FoundResources:
    """What is there after at most so many steps."""
    part = VaultSetup("nightly", wanted, cast("AwsCalls", account), account.found)
    clock, before = OffsetClock(), len(account.steps)

    def begin(_: VaultSetup, step: PlannedCall) -> None:
        if len(account.steps) - before == most:
            raise CutError
        account.steps.append(step)

    with suppress(CutError):
        carry_out(
            [part],
            planner,
            clock=clock,
            look=partial(account.look, part),
            begin=begin,
            tell=lambda _: None,
            waits=lambda _: None,
        )
    return account.found


LAGS = st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=LOOKS)


@given(WANTED | st.just(NOTED), st.integers(0, 30), LAGS)
def test_from_any_half_to_the_whole_and_to_nothing(
    wanted: Wanted, cut: int, lags: list[tuple[int, ...]]
) -> None:
    half = carried_out(to_make, wanted, Account(), cut)
    account = Account(half, lags=lags)
    whole = carried_out(to_make, wanted, account)
    assert to_make(wanted, whole) == Plan(())
    assert (len(whole.anchors), len(whole.profiles), len(whole.roles)) == (1, 1, 3)
    assert all(account.steps.count(step) == 1 for step in account.steps), "nothing was done twice"
    removed = Account(half, lags=lags)
    left = carried_out(to_destroy, wanted, removed)
    untagged = half.place is not None and not half.place.is_ours and not wanted.is_noted
    assert left == (FoundResources(place=half.place) if untagged else FoundResources()), (
        "a vault without a tag may be anybody's"
    )
    assert all(removed.steps.count(step) == 1 for step in removed.steps)
    assert not to_destroy(wanted, left).steps


@given(WANTED, st.integers(0, 15), st.integers(0, 12))
def test_a_lost_answer_leaves_one_of_each(wanted: Wanted, lost: int, lag: int) -> None:
    """Where what was made is not shown yet, either, it is made again, and one is taken away once both are."""
    account = Account(loses=lost, lags=[(lag, lag, 0, 0)])
    whole = carried_out(to_make, wanted, account)
    assert to_make(wanted, whole) == Plan(())
    assert (len(whole.anchors), len(whole.profiles), len(whole.roles)) == (1, 1, 3)
    if lag == 0:
        assert all(account.steps.count(step) == 1 for step in account.steps)


def test_what_is_never_shown_is_told() -> None:
    """What was made has an ARN that the config needs; a change stays in the plan."""
    never = [(1000,) * 4] * (LOOKS + 1)
    account = Account(lags=never)
    with pytest.raises(VaultError, match=r"AWS took .*trust anchor n.*does not show it"):
        carried_out(to_make, OF_VAULT, account)
    assert set(account.made.values()) - {1, 3} == set()
    whole = account.found
    shorter = replace(OF_VAULT, seconds=900)
    account = Account(whole, lags=never)
    assert to_make(shorter, carried_out(to_make, shorter, account)) == Plan(())
    assert account.made == {"update_profile": 1}


@given(WANTED)
def test_what_holds_something_or_is_not_ours_is_left(wanted: Wanted) -> None:
    whole = carried_out(to_make, wanted, Account())
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
    plan = to_make(wanted, FoundResources())
    made = sum(step.verb is Verb.MAKE for step in plan.steps)
    assert made < len(plan.steps)
    assert summary(plan) == f"{made} to make"
    whole = carried_out(to_make, wanted, Account())
    shorter = to_make(replace(wanted, seconds=wanted.seconds - 1), whole)
    assert summary(shorter) == "1 to change"


def test_who_loses_access_is_said() -> None:
    """A set-up of the same name for another server takes the roles from the first."""
    whole = carried_out(to_make, OF_VAULT, Account())
    of_another = [replace(role, common_name="web2") for role in ROLES]
    plan = to_make(replace(OF_VAULT, roles=tuple(of_another)), whole)
    assert {step.operation for step in plan.steps} == {"update_assume_role_policy"}
    assert {step.words for step in plan.steps} == {
        "who may assume it is set right: CN=web2, OU=OU; no more CN=web1"
    }


def test_what_aws_writes_in_another_way_is_no_change() -> None:
    """Lists in another order, and a list of one as it."""
    whole = carried_out(to_make, OF_BUCKET, Account())
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
    theirs = FoundResources(place=FoundPlace(is_ours=False, holds=False, is_others=True))
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
    plan = to_destroy(NOTED, FoundResources(place=place))
    assert plan.steps == ()
    assert "vault nightly" in plan.left[0]


def test_a_vault_beside_it_in_the_config_is_an_obstacle() -> None:
    plan = to_make(replace(OF_VAULT, others=("warm",)), FoundResources())
    assert "would cut warm off" in plan.obstacles[0]
