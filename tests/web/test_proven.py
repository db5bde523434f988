"""Drills of a real server on the page: what each proved, of what, when, and what they came to."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.pages import running_page
from tests.support.servers import directory_server, replace
from tests.web.markup import read

DRILL = '[[drill]]\nname = "weekly"\nvault = "cold"\nsample = "2 files"\n\n[[job]]'


def test_drills_and_what_they_proved_are_listed(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    replace(server, "[[job]]", DRILL)
    server.init()
    server.backup()
    with running_page(server) as page:
        client = page.login()
        before = client.get("/archives").text
        assert "No drill was run yet" in before
        server.done("drill", "run", "weekly")
        server.done("drill", "run", "weekly", "--key", server.key_file)
        document = read(client.get("/archives").text)
    rows = [re.sub(r"\s+", " ", element.text) for element in document.all("tr") if "weekly" in element.text]
    assert len(rows) == 2
    opened, read_back = rows
    assert "opened" in opened
    assert "2 files" in opened
    assert "read back" in read_back
    assert re.search(r"\d archives?", read_back)
    assert all("done" in row for row in rows)
    (proven,) = [
        element.text for element in document.all("tr") if "main" in element.text and "%" in element.text
    ]
    assert "never" not in proven
