"""Certificate files: what other nodes and clients would refuse is refused when it is loaded."""

import os
import ssl
import stat
import time
from pathlib import Path

import pytest
from certificates import CLIENT, SERVER, expired, files, node_files, stranger
from cryptography.hazmat.primitives import serialization

from quorate.cli.dev_authority import DevAuthority, Pair
from quorate.errors import SettingsError
from quorate.node.tls_material import load_peer_material, load_server_material, signatures
from quorate.node.tls_settings import Files


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "certs")


def refused(bad: Files, *, door: bool = False) -> str:
    with pytest.raises(SettingsError) as caught:
        load_server_material(bad, mutual=True) if door else load_peer_material(bad)
    return str(caught.value)


def test_good_files_load_and_say_how_long_they_last(authority: DevAuthority) -> None:
    """Both kinds of material come out, with the certificate that others will see."""
    good = node_files(authority, 1)
    material = load_peer_material(good)
    assert material.client is not None
    assert ("URI", "quorate:node:1") in material.certificate["subjectAltName"]
    assert 364 < (material.not_after_seconds - time.time()) / 86_400 < 366
    assert material.server.verify_mode is ssl.CERT_REQUIRED
    assert material.server.num_tickets == 0
    assert load_server_material(good, mutual=False).server.verify_mode is ssl.CERT_NONE
    assert load_server_material(good, mutual=True).server.verify_mode is ssl.CERT_REQUIRED


def test_an_expired_certificate_is_refused(authority: DevAuthority) -> None:
    """Every other node would refuse it; so does this one, before it serves anybody."""
    bad = files(authority, expired(authority))
    assert "expired.pem: other nodes would refuse this node" in refused(bad)
    assert "its certificate has expired: give it a new one" in refused(bad)
    assert "clients would refuse this node: its certificate has expired" in refused(bad, door=True)


def test_a_certificate_of_another_authority_is_refused(
    authority: DevAuthority, tmp_path: Path
) -> None:
    """A certificate that ``--tls-ca`` does not vouch for can link to nobody."""
    other = stranger(tmp_path).node(1)
    words = refused(Files(other.cert, other.key, authority.own.cert))
    assert "the authority that signed its certificate is not one of ours (--tls-ca)" in words


def test_a_door_for_clients_may_have_a_certificate_of_any_authority(
    authority: DevAuthority, tmp_path: Path
) -> None:
    """What clients believe is theirs to know; a node's own authority need not have signed it."""
    other = stranger(tmp_path).node(1)
    load_server_material(Files(other.cert, other.key, authority.own.cert), mutual=True)


@pytest.mark.parametrize(("usage", "lacking"), [(SERVER, "client"), (CLIENT, "server")])
def test_a_certificate_not_made_for_both_directions_is_refused(
    authority: DevAuthority, usage: object, lacking: str
) -> None:
    """Nodes dial and are dialled, so both uses must be allowed; the missing one is named."""
    pair = authority.issue("half", ["quorate:node:1"], ["127.0.0.1"], [usage], 1)
    assert f"must allow {lacking} authentication" in refused(files(authority, pair))


def test_a_key_that_everybody_can_read_is_refused(authority: DevAuthority) -> None:
    """Others than owner and group must not be able to read a key; the group may."""
    good = node_files(authority, 1)
    good.key.chmod(0o644)
    assert "can be read by everybody on this machine (mode 644): chmod 600" in refused(good)
    good.key.chmod(0o640)
    load_peer_material(good)


def test_keys_are_made_unreadable_for_others(authority: DevAuthority) -> None:
    """What ``quorate certs dev`` writes obeys the rule, whatever the umask is."""
    old = os.umask(0)
    try:
        pair = authority.node(5)
    finally:
        os.umask(old)
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.own.key.stat().st_mode) == 0o600


def test_a_key_with_a_passphrase_is_refused_and_nothing_asks_for_it(
    authority: DevAuthority,
) -> None:
    """A prompt on a terminal that nobody watches would hang the start for ever."""
    good = node_files(authority, 1)
    key = serialization.load_pem_private_key(good.key.read_bytes(), password=None)
    good.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "is protected by a passphrase" in refused(good)


def test_files_that_do_not_fit_or_are_no_pem_are_named(
    authority: DevAuthority, tmp_path: Path
) -> None:
    """Another's key, text, nothing, a directory, a huge file: the message names file and flag."""
    one, two = authority.node(1), authority.node(2)
    ca = authority.own.cert
    assert f"it does not belong to the key in {two.key}" in refused(Files(one.cert, two.key, ca))
    text = tmp_path / "text.pem"
    text.write_text("hello\n")
    text.chmod(0o600)
    assert "they must be PEM files" in refused(Files(text, one.key, ca))
    assert "they must be PEM files" in refused(Files(one.cert, text, ca))
    assert f"--tls-ca {text}" in refused(Files(one.cert, one.key, text))
    gone = tmp_path / "gone.pem"
    assert f"--tls-key {gone}: No such file" in refused(Files(one.cert, gone, ca))
    assert f"--tls-ca {tmp_path} is not a file" in refused(Files(one.cert, one.key, tmp_path))
    with gone.open("wb") as file:
        file.truncate(2 << 20)
    assert f"--tls-cert {gone} is not a file of at most 1 MiB" in refused(Files(gone, one.key, ca))


def test_a_replaced_file_looks_different(authority: DevAuthority) -> None:
    """The signature of the files changes when one is replaced, and when one is gone."""
    good = node_files(authority, 1)
    before = signatures(good)
    assert signatures(good) == before
    authority.node(1)
    assert signatures(good) != before
    good.key.unlink()
    assert signatures(good)[1] is None


def test_a_pair_is_usable_only_while_it_is_in_date(authority: DevAuthority) -> None:
    """Missing and expired pairs are made anew by ``quorate up --tls``."""
    assert authority.node(1).is_usable
    assert not expired(authority).is_usable
    assert not Pair(authority.directory / "no.pem", authority.directory / "no-key.pem").is_usable
