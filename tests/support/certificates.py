"""Certificates for tests, good and bad ones, from an authority made for the test."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from quorate.cli.dev_authority import DevAuthority, Pair
from quorate.node.tls_identity import node_name
from quorate.node.tls_settings import Files

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
BOTH = (SERVER, CLIENT)


def files(authority: DevAuthority, pair: Pair) -> Files:
    """A pair and its authority, as settings name them."""
    return Files(pair.cert, pair.key, authority.own.cert)


def node_files(authority: DevAuthority, node_id: int) -> Files:
    """A good certificate for a node."""
    return files(authority, authority.node(node_id))


def expired(authority: DevAuthority, node_id: int = 1) -> Pair:
    """A certificate that was good for this node, until yesterday."""
    return authority.issue("expired", [node_name(node_id)], ["127.0.0.1"], BOTH, days=-1)


def client_context(authority: DevAuthority, pair: Pair | None) -> ssl.SSLContext:
    """What a client of ours uses; without a pair it shows no certificate."""
    context = ssl.create_default_context(cafile=authority.own.cert)
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def stranger(directory: Path) -> DevAuthority:
    """An authority that nobody of ours knows."""
    return DevAuthority(directory / "stranger")
