"""The settings of a running emulator: switches, and choices where AWS's documents disagree or are silent."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import fields, replace

from backup.emulator.core.errors import EmulatorError


class Settings(Struct, frozen=True):
    """The settings of the emulator; docs/emulator.md gives the reasons for the defaults.

    `insufficient_capacity_status`: the Developer Guide says 503, the SDK's model 400. `tag_limit`: the guide
    says 50 a vault, the model 10. `expedited_capacity`: False refuses Expedited retrievals without a
    provisioned unit. `free_tier_bytes_per_day`: what the FreeTier strategy lets through in 24 hours.
    `chunked_uploads`: whether a body without Content-Length is taken. `no_longer_supported`: answers every
    operation as AWS does to accounts that never used vaults. `webhook`: where messages to topics are posted
    (an http or https URL on this machine; nowhere if empty); `webhook_elsewhere` lets it be another machine.
    `inventory_at_once`: a vault's inventory is made after each write, not once a day. `new_role_seconds`: how
    long, by the emulator's clock, Roles Anywhere does not know a role that IAM made or whose trust policy it
    changed.

    Of S3: `minimum_part_bytes` of every part but the last; `repeat_complete`: whether a Complete that is sent
    again is answered like the first, for a day, or with NoSuchUpload; `restore_days_from_completion`: whether
    the days of a restored copy count from the end of the restore, or as documented from the request.
    """

    insufficient_capacity_status: int = 503
    tag_limit: int = 50
    expedited_capacity: bool = True
    free_tier_bytes_per_day: int = 10 * 1024**3 // 30
    chunked_uploads: bool = True
    no_longer_supported: bool = False
    webhook: str = ""
    webhook_elsewhere: bool = False
    inventory_at_once: bool = False
    new_role_seconds: int = 0
    minimum_part_bytes: int = 5 * 1024**2
    repeat_complete: bool = True
    restore_days_from_completion: bool = False


KINDS = {bool: "true or false", int: "a number", str: "a text"}
ALLOWED = {"insufficient_capacity_status": (400, 503), "tag_limit": (10, 50)}


def changed(settings: Settings, raw: object) -> Settings:
    """The settings with some of them replaced; ValueError with one sentence for a mistake."""
    if not isinstance(raw, Mapping):
        raise ValueError("Give an object of settings.")  # noqa: TRY004 (the caller answers ValueError)
    kinds = {entry.name: type(getattr(settings, entry.name)) for entry in fields(Settings)}
    for key, value in raw.items():
        kind = kinds.get(key)
        if kind is None:
            raise ValueError(f"There is no setting {key!r}.")
        if type(value) is not kind or (kind is int and value < 0):
            raise ValueError(f"The setting {key} must be {KINDS[kind]}.")
        if key in ALLOWED and value not in ALLOWED[key]:
            raise ValueError(f"The setting {key} must be one of {ALLOWED[key]}.")
    wanted = replace(settings, **raw)
    _check_webhook(wanted)
    return wanted


def _check_webhook(settings: Settings) -> None:
    if not settings.webhook:
        return
    url = urlsplit(settings.webhook)  # its own ValueError is a sentence, too
    if url.scheme not in {"http", "https"} or not url.hostname or url.username is not None:
        raise ValueError("The webhook must be an http or https URL without a password.")
    if not (is_loopback(url.hostname) or settings.webhook_elsewhere):
        raise ValueError("The webhook is not on this machine: set webhook_elsewhere if that is meant.")


def is_address(host: str) -> bool:
    """Whether a host is written as an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by address or as localhost."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def from_text(settings: Settings, text: str) -> Settings:
    """Replace one setting written as `key=value`, as on the command line."""
    key, _, value = text.partition("=")
    words: dict[str, object] = {"true": True, "false": False}
    return changed(settings, {key: words.get(value, int(value) if value.isdecimal() else value)})


def read_settings(texts: Iterable[str]) -> Settings:
    """The defaults with some settings replaced; EmulatorError for a mistake."""
    settings = Settings()
    for text in texts:
        try:
            settings = from_text(settings, text)
        except ValueError as error:
            raise EmulatorError(str(error)) from error
    return settings


class SettingsInForce:
    """Holds the settings of a running emulator."""

    def __init__(self, settings: Settings) -> None:
        self.current = settings
