"""Units from templates: nothing changes where all lies in its usual place; marks tell who changed one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.app.machine.unit_texts import Places, as_ordinary_user, filled, for_page, is_untouched, signed

TEMPLATES = sorted((Path(__file__).parents[2] / "deploy" / "systemd").iterdir())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_in_its_usual_place_a_template_is_the_unit(path: Path) -> None:
    """So whoever copies a template by hand has what `install` writes."""
    assert filled(path.read_text(), Places()) == path.read_text()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_elsewhere_no_usual_place_is_left(path: Path) -> None:
    elsewhere = Places(program="/opt/nv/bin/nightvault", config="/srv/c.toml", state="/srv/state")
    fill = for_page if path.name == "nightvault-web.service" else filled
    settings = [line for line in fill(path.read_text(), elsewhere).splitlines() if line[:1] not in {"#", ""}]
    assert not [
        setting for setting in settings if "/usr/local" in setting or "/var/lib/nightvault" in setting
    ]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_an_ordinary_user_is_never_root(path: Path) -> None:
    text = as_ordinary_user(path.read_text())
    assert as_ordinary_user(text) == text
    if path.suffix == ".service":
        assert text.count("\nUser=") == 1
        assert text.count("\nCapabilityBoundingSet=") == 1 or path.name.startswith("nightvault-restore")


@given(st.text(), st.integers(min_value=0), st.characters(codec="utf-8"))
def test_whoever_changes_a_unit_is_noticed(text: str, place: int, letter: str) -> None:
    """One letter anywhere, but for what a text file cannot keep."""
    made = signed(text)
    assert is_untouched(made)
    place %= len(made)
    changed = made[:place] + letter + made[place + 1 :]
    assert is_untouched(changed) == (changed == made)
    assert not is_untouched(made + letter)
    assert not is_untouched(text)
