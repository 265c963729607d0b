"""A certificate authority for development: certificates for nodes and clients on this machine.

    DIR/ca.pem, ca-key.pem              the authority
    DIR/node-N.pem, node-N-key.pem      one pair per node, named ``quorate:node:N`` and by its host
    DIR/client.pem, client-key.pem      one for all clients

Not for production: the authority's key lies beside what it signs. Needs the package
``cryptography`` (extra ``tls``), which only makes certificates; TLS itself is Python's ``ssl``.

Invariant: a key is never readable by others, not even while it is being written.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from quorate.errors import UsageError
from quorate.node.tls_identity import node_name

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    raise UsageError(
        "making certificates needs the package cryptography; install it with: "
        "pip install 'quorate[tls]'"
    ) from None

_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_CA_DAYS = 3650
_RENEW_BEFORE = dt.timedelta(days=1)
_BACKDATE = dt.timedelta(hours=1)  # clocks of two machines differ


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path

    @property
    def is_usable(self) -> bool:
        """Whether both are there and in date for a while."""
        try:
            found = x509.load_pem_x509_certificate(self.cert.read_bytes())
        except (OSError, ValueError):
            return False
        return self.key.exists() and found.not_valid_after_utc > _now() + _RENEW_BEFORE


class DevAuthority:
    """The authority in a directory; made there if there is none.

    Args:
        directory: where everything lies.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.own = Pair(directory / "ca.pem", directory / "ca-key.pem")
        directory.mkdir(parents=True, exist_ok=True)
        self.is_new = not self.own.is_usable
        if self.is_new:
            self._found()
        self._certificate = x509.load_pem_x509_certificate(self.own.cert.read_bytes())
        key = serialization.load_pem_private_key(self.own.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    def node(self, node_id: int, host: str = "", days: float = 365) -> Pair:
        """Give a node a new certificate; it may serve and dial."""
        hosts = dict.fromkeys((*((host,) if host else ()), *_LOCAL_HOSTS))
        return self.issue(
            f"node-{node_id}", [node_name(node_id)], list(hosts), (_SERVER, _CLIENT), days
        )

    def client(self, days: float = 365) -> Pair:
        """Give clients a new certificate."""
        return self.issue("client", [], [], (_CLIENT,), days)

    def pair(self, name: str) -> Pair:
        """Where a certificate of this name lies, or would."""
        return Pair(self.directory / f"{name}.pem", self.directory / f"{name}-key.pem")

    def issue(
        self,
        name: str,
        uris: Sequence[str],
        hosts: Sequence[str],
        usages: Sequence[x509.ObjectIdentifier],
        days: float,
    ) -> Pair:
        """Sign a certificate for a new key and write both.

        Args:
            name: of the files, and the subject.
            uris: names of nodes.
            hosts: host names and IP addresses.
            usages: what it may be used for.
            days: how long from now; negative: it has expired already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        until = _now() + dt.timedelta(days=days)
        builder = (
            _builder(f"quorate {name}", key, min(_now(), until) - _BACKDATE, until)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [_host_name(host) for host in hosts]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = self.pair(name)
        _write_pair(pair, key, builder.sign(self._key, hashes.SHA256()))
        return pair

    def _found(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        until = _now() + dt.timedelta(days=_CA_DAYS)
        builder = _builder("quorate development authority", key, _now() - _BACKDATE, until)
        certificate = (
            builder.issuer_name(_name("quorate development authority"))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_pair(self.own, key, certificate)


def make_certificates(directory: Path, nodes: Mapping[int, str], days: float) -> DevAuthority:
    """Give every node and the clients new certificates; the authority is kept if there is one."""
    authority = DevAuthority(directory)
    for node_id, host in nodes.items():
        authority.node(node_id, host, days)
    authority.client(days)
    return authority


def ensure_certificates(directory: Path, nodes: int) -> DevAuthority:
    """Make only what is missing, old, or not signed by this authority."""
    authority = DevAuthority(directory)
    for node_id in range(1, nodes + 1):
        if authority.is_new or not authority.pair(f"node-{node_id}").is_usable:
            authority.node(node_id)
    if authority.is_new or not authority.pair("client").is_usable:
        authority.client()
    return authority


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    since: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_pair(pair: Pair, key: ec.EllipticCurvePrivateKey, cert: x509.Certificate) -> None:
    key_bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(pair.key, key_bytes, 0o600)
    _write(pair.cert, cert.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file as a whole: a node may be about to load it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
