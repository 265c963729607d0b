"""For which node a certificate is: names, hosts, and nothing else."""

import pytest

from quorate.node.tls_identity import node_name, objection_to


def certificate(*names: tuple[str, str]) -> dict[str, object]:
    return {"subject": ((("commonName", "b.example"),),), "subjectAltName": names}


@pytest.mark.parametrize(
    ("names", "node_id", "host"),
    [
        ([("URI", "quorate:node:2")], 2, ""),
        ([("URI", "quorate:node:2"), ("DNS", "elsewhere")], 2, "b.example"),
        ([("URI", "https://x"), ("URI", "quorate:node:2")], 2, "b.example"),
        ([("DNS", "B.example.")], 2, "b.example"),
        ([("DNS", "*.example.org")], 2, "b.example.org"),
        ([("IP Address", "10.0.0.2")], 2, "10.0.0.2"),
        ([("IP Address", "0:0:0:0:0:0:0:1\n")], 2, "::1"),
        ([("URI", "quorate:node:7")], 0, "b.example"),
        ([("DNS", "b.example")], 0, "b.example"),
    ],
)
def test_a_certificate_is_good_for_its_node(
    names: list[tuple[str, str]], node_id: int, host: str
) -> None:
    """A node's name, or its host as DNS name or address, makes the certificate its own."""
    assert objection_to(certificate(*names), node_id, host) is None


@pytest.mark.parametrize(
    ("names", "node_id", "host", "words"),
    [
        ([("URI", "quorate:node:2")], 3, "", "for quorate:node:2, not for quorate:node:3"),
        ([("URI", "quorate:node:22")], 2, "", "for quorate:node:22"),
        ([("URI", "quorate:node:3"), ("DNS", "b.example")], 2, "b.example", "quorate:node:3"),
        ([("DNS", "a.example")], 2, "b.example", "for a.example, not for node 2 at b.example"),
        ([], 2, "b.example", "for no host"),
        ([("DNS", "b.example")], 2, "", "not for node 2"),
        ([("DNS", "*.example")], 2, "b.example", "*.example"),
        ([("DNS", "*.example.org")], 2, "a.b.example.org", "*.example.org"),
        ([("DNS", "*.example.org")], 2, "example.org", "*.example.org"),
        ([("DNS", "10.0.0.2")], 2, "10.0.0.3", "10.0.0.2"),
        ([("IP Address", "10.0.0.2")], 2, "b.example", "10.0.0.2"),
        ([("DNS", "x" * 5000)], 2, "b.example", "x" * 80),
    ],
)
def test_a_certificate_of_somebody_else_is_not(
    names: list[tuple[str, str]], node_id: int, host: str, words: str
) -> None:
    """Another node, another host, a wildcard too wide, the common name alone: refused in words."""
    objection = objection_to(certificate(*names), node_id, host)
    assert objection is not None
    assert words in objection
    assert len(objection) < 700


def test_no_certificate_is_nobodys() -> None:
    """Without a certificate there is no identity, whatever is asked."""
    assert objection_to(None, 2, "b.example") == "it showed no certificate"
    assert objection_to({}, 0, "b.example") == "it showed no certificate"
    assert node_name(2) == "quorate:node:2"
