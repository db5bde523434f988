"""`install --systemd` writes the page's unit where there is a page, and lets the daemon serve it."""

from __future__ import annotations

from pathlib import Path

from backup.app.machine.unit_texts import Places
from backup.app.machine.units import UnitKind, planned
from backup.config import load_config
from tests.support.servers import Server


def test_the_pages_unit_is_there_where_the_page_is(one_backup: Server, tmp_path: Path) -> None:
    without = load_config(str(one_backup.config))
    places = Places(program="/opt/nv/bin/nightvault", config="/srv/c.toml", state="/srv/state")
    assert "nightvault-web.service" not in {
        unit.name for unit in planned(without, UnitKind.DAEMON, places, str(tmp_path))
    }
    other = tmp_path / "config.toml"
    other.write_text("[web]\n" + one_backup.config.read_text())
    units = {
        unit.name: unit.text
        for unit in planned(load_config(str(other)), UnitKind.DAEMON, places, str(tmp_path))
    }
    assert "ExecStart=/opt/nv/bin/nightvault web\n" in units["nightvault-web.service"]
    assert "LoadCredential=config.toml:/srv/state/page.toml\n" in units["nightvault-web.service"]
    assert "/srv/c.toml" not in units["nightvault-web.service"]
    assert "User=nightvault-web\n" in units["nightvault-web.service"]
    assert "CAP_CHOWN" in units["nightvault.service"]
