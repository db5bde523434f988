"""Through a proxy that answers: TLS in a CONNECT tunnel, plain HTTP forwarded, a password, and NO_PROXY."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.helper_world import World, list_vaults, made_world
from tests.cli.proxy_server import Proxy
from tests.support.identities import server_certificate

PASSWORD = "p@ss:word/of the proxy"
QUOTED = "p%40ss%3Aword%2Fof%20the%20proxy"


@pytest.fixture(scope="module")
def tls_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world on an emulator that speaks TLS; AWS_CA_BUNDLE is to name `ca.pem` beside its home."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = server_certificate(folder)
    with made_world(folder, "--tls-cert", str(certificate), "--tls-key", str(key)) as world:
        yield world


def bundle(world: World) -> dict[str, str]:
    return {"AWS_CA_BUNDLE": str(world.home.parent / "server.pem")}


def get(world: World, *words: str, **more: str) -> tuple[int, bytes]:
    done = world.run("credential-process", *world.flags, "--no-cache", *words, **bundle(world), **more)
    return done.returncode, done.stderr


def test_tls_goes_through_a_tunnel(tls_world: World) -> None:
    target = tls_world.emulator.rolesanywhere_url.removeprefix("https://")
    with Proxy().running() as proxy:
        through = {"HTTPS_PROXY": f"http://{proxy.address}"}
        assert get(tls_world, "--with-proxy", **through)[0] == 0
        assert proxy.seen == [f"CONNECT {target}"]
        assert get(tls_world, **through)[0] == 0  # without the flag no proxy counts
        assert len(proxy.seen) == 1
        assert get(tls_world, "--with-proxy", **through, NO_PROXY="example.com,127.0.0.1")[0] == 0
        assert len(proxy.seen) == 1
        assert get(tls_world, "--with-proxy", **through, NO_PROXY="example.com")[0] == 0
        assert len(proxy.seen) == 2


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_every_name_of_the_variable_counts(tls_world: World, variable: str) -> None:
    with Proxy().running() as proxy:
        assert get(tls_world, "--with-proxy", **{variable: proxy.address})[0] == 0
        assert len(proxy.seen) == 1


def test_a_proxys_password(tls_world: World) -> None:
    with Proxy("me", PASSWORD).running() as proxy:
        right = f"http://me:{QUOTED}@{proxy.address}"
        assert get(tls_world, "--with-proxy", HTTPS_PROXY=right) == (0, b"")
        assert proxy.refused == 0
        for wrong in (f"http://me:wrong-secret@{proxy.address}", f"http://{proxy.address}"):
            code, said = get(tls_world, "--with-proxy", HTTPS_PROXY=wrong)
            assert code == 15
            assert b"407" in said
            assert b"wrong-secret" not in said
        assert proxy.refused > 0


def test_plain_http_is_forwarded(world: World) -> None:
    with Proxy("me", PASSWORD).running() as proxy:
        through = {"HTTP_PROXY": f"http://me:{QUOTED}@{proxy.address}"}
        keys = world.keys(*world.flags, "--no-cache", "--with-proxy", **through)
        assert list_vaults(world, keys) == []
        assert proxy.seen[0] == f"POST {world.emulator.rolesanywhere_url}/sessions"
        done = world.run(
            "credential-process",
            *world.flags,
            "--with-proxy",
            "--no-cache",
            HTTP_PROXY=f"http://{proxy.address}",
        )
        assert done.returncode == 15
        assert b"the proxy requires a valid user and password" in done.stderr


def test_the_configs_identity_always_goes_through_it(tls_world: World, tmp_path: Path) -> None:
    config = str(tls_world.config(tmp_path, tls_world.certificate, tls_world.key))
    with Proxy().running() as proxy:
        through = {"HTTPS_PROXY": f"http://{proxy.address}", **bundle(tls_world)}
        words = ("credential-process", "--config", config, "--no-cache")
        assert tls_world.run(*words, **through).returncode == 0
        assert len(proxy.seen) == 1
