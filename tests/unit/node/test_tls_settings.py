"""Settings of TLS: what a door needs is there, or the node does not start."""

from pathlib import Path

import pytest

from quorate.errors import SettingsError
from quorate.node.settings import NodeSettings
from quorate.node.sources import load_settings
from quorate.node.units import Address

OWN = {"tls_cert": "c.pem", "tls_key": "k.pem", "tls_ca": "ca.pem"}
DOOR = {"client_tls_listen": "127.0.0.1:2281"}


def load(flags: dict[str, str]) -> NodeSettings:
    return load_settings({"id": "1", "data": "/data", "peer_listen": "127.0.0.1:9"} | flags, {})


def test_without_files_there_is_no_tls() -> None:
    """The defaults are off, off and nowhere."""
    tls = load({}).tls
    assert not tls.is_used
    assert (tls.peer_tls, tls.client_tls_listen, tls.admin_tls) == ("off", None, "off")


def test_a_certificate_means_mutual_tls_between_nodes() -> None:
    """Giving a certificate is enough to require it of other nodes; saying off is possible."""
    assert load(OWN).tls.peer_tls == "require"
    assert load(OWN | {"peer_tls": "dial"}).tls.peer_tls == "dial"
    assert load(OWN | DOOR | {"peer_tls": "off"}).tls.peer_files is None


def test_clients_use_the_nodes_certificate_or_their_own() -> None:
    """Clients' files default to the node's, one by one; without mutual no authority is needed."""
    files = load(OWN | DOOR).tls.client_files
    assert files is not None
    assert (files.cert, files.key, files.ca) == (Path("c.pem"), Path("k.pem"), Path("ca.pem"))
    other = {"client_tls_cert": "public.pem", "client_tls_key": "public-key.pem"}
    files = load(OWN | DOOR | other).tls.client_files
    assert files is not None
    assert (files.cert, files.ca) == (Path("public.pem"), Path("ca.pem"))
    files = load(DOOR | other | {"client_tls": "on"}).tls.client_files
    assert files is not None
    assert files.ca is None


def test_the_plain_door_can_be_closed() -> None:
    """``--listen none`` leaves the door with TLS alone."""
    settings = load(OWN | DOOR | {"listen": "none"})
    assert settings.listen is None
    assert settings.client_address == Address("127.0.0.1", 2281)


def test_every_form_of_a_setting_works(tmp_path: Path) -> None:
    """Flag, environment and file say the same thing."""
    file = tmp_path / "quorate.toml"
    file.write_text('tls-cert = "c.pem"\ntls_key = "k.pem"\nclient_tls_listen = "127.0.0.1:2381"\n')
    flags = {"id": "1", "data": "/data", "client_tls": "on"}
    environ = {"QUORATE_TLS_CA": "ca.pem", "QUORATE_PEER_TLS": "ACCEPT"}
    tls = load_settings(flags, environ, file).tls
    assert tls.peer_tls == "accept"
    assert tls.client_tls == "on"
    assert tls.peer_files is not None
    assert tls.peer_files.ca == Path("ca.pem")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"tls_cert": "c.pem"}, "--tls-cert is given without --tls-key"),
        ({"client_tls_key": "k.pem"} | DOOR, "--client-tls-key is given without --client-tls-cert"),
        ({"peer_tls": "require"}, "--peer-tls require needs --tls-cert; `quorate certs dev`"),
        ({"tls_cert": "c", "tls_key": "k"}, "--peer-tls require needs --tls-ca"),
        (DOOR, "--client-tls-listen needs --tls-cert"),
        (DOOR | {"tls_cert": "c", "tls_key": "k", "peer_tls": "off"}, "certificates of clients"),
        (OWN | {"peer_tls": "off"}, "spoken nowhere"),
        (OWN | {"client_tls_ca": "x"}, "neither --client-tls-listen nor --admin-tls is"),
        (OWN | {"admin_tls": "on"}, "--admin-tls is on, but --admin-listen is not given"),
        ({"listen": "none"}, "no client could connect"),
        (OWN | {"client_tls_listen": "127.0.0.1:2181"}, "--client-tls-listen and --listen are bo"),
        ({"peer_tls": "maybe"}, "--peer-tls: 'maybe' is not one of off, accept, dial, require"),
    ],
)
def test_contradictions_are_refused_with_the_way_out(flags: dict[str, str], words: str) -> None:
    """TLS that was asked for is never left out, and files are never ignored."""
    with pytest.raises(SettingsError) as caught:
        load(flags)
    assert words in str(caught.value)
