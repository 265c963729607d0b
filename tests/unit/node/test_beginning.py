"""How a node begins: what the settings say, what the directory remembers, and who wins."""

import pytest

from quorate.consensus.membership import Configuration
from quorate.errors import SettingsError, WrongDirectory
from quorate.node.beginning import (
    JOINED,
    begin_again,
    begin_joined,
    begin_new,
    check_joiner,
    check_listed,
    located_by,
)
from quorate.node.settings import NodeSettings, cluster_digest
from quorate.node.sources import load_settings
from quorate.node.units import Address, parse_cluster
from quorate.storage.identity import Identity

THREE = "1=a:1,2=b:2,3=c:3"


def settings(**flags: str) -> NodeSettings:
    return load_settings({"id": "1", "data": "/data"} | flags, {})


def identity(cluster: str = THREE, founding: str = THREE, node_id: int = 1) -> Identity:
    return Identity(cluster_digest(parse_cluster(cluster)), node_id, b"d" * 16, founding=founding)


def test_the_first_start_believes_the_settings() -> None:
    """The list is the first configuration, addresses included; its digest names the cluster."""
    begun = begin_new(settings(cluster=THREE, peer_listen="0.0.0.0:1"))
    assert begun.cluster_id == cluster_digest(parse_cluster(THREE))
    assert begun.founding == THREE
    first = begun.first_configuration()
    assert first.voters == (1, 2, 3)
    assert first.address(2) == "b:2"
    assert begun.peer_listen == Address("0.0.0.0", 1)
    assert begun.peer_address == Address("a", 1)


def test_a_later_start_believes_the_directory() -> None:
    """With another list or none at all the cluster and its first members stay what they were."""
    for flags in ({"cluster": THREE}, {"cluster": "1=a:1,4=d:4"}, {"peer_listen": "a:1"}, {}):
        begun = begin_again(settings(**flags), identity())
        assert begun.cluster_id == cluster_digest(parse_cluster(THREE))
        assert begun.first_configuration().voters == (1, 2, 3)
        assert begun.peer_listen == Address("a", 1)


def test_a_directory_without_founding_text_needs_the_first_list() -> None:
    """As before the text was written: another list is refused, the first one is remembered now."""
    assert begin_again(settings(cluster=THREE), identity(founding="")).founding == THREE
    for flags in ({"cluster": "1=a:1,4=d:4"}, {}):
        with pytest.raises(WrongDirectory, match="belongs to cluster"):
            begin_again(settings(**flags), identity(founding=""))


def test_another_nodes_directory_is_refused() -> None:
    """Whatever the cluster: a directory is one node's."""
    with pytest.raises(WrongDirectory, match="belongs to node 2"):
        begin_again(settings(cluster=THREE), identity(node_id=2))


def test_who_joined_founds_nothing() -> None:
    """Neither at the first start nor later, with or without --join: no members, so no election."""
    first = begin_joined(settings(join="a:1", peer_listen="d:4"), b"c" * 16)
    again = begin_again(settings(peer_listen="d:4"), identity(founding=JOINED))
    for begun in (first, again):
        assert begun.founding == JOINED
        assert begun.first_configuration() == Configuration.of(())
        assert begun.peer_address == Address("d", 4)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "needs --peer-listen"),
        ({"peer_listen": "0.0.0.0:4"}, "give --peer-address"),
        ({"peer_listen": "[::]:4"}, "give --peer-address"),
    ],
)
def test_who_cannot_be_dialled_does_not_join(flags: dict[str, str], words: str) -> None:
    """The leader must reach a new node; an address of every interface is none."""
    with pytest.raises(SettingsError, match=words):
        check_joiner(settings(join="a:1", **flags))
    assert check_joiner(
        settings(join="a:1", peer_listen="0.0.0.0:4", peer_address="d:4")
    ) == Address("d", 4)


def test_a_lone_node_listens_for_others_only_if_told() -> None:
    """Two nodes alone on one machine do not fight for a port that neither needs."""
    assert begin_new(settings()).peer_listen is None
    assert begin_new(settings(peer_listen="a:1")).peer_listen == Address("a", 1)


def test_a_node_that_got_company_listens_after_every_start() -> None:
    """Where the members say, unless its settings say otherwise; alone it still does not."""
    company = Configuration.of((1, 2), addresses={1: "a:1", 2: "b:2"})
    alone = begin_again(settings(), identity("1=127.0.0.1:2281", "1=127.0.0.1:2281"))
    assert alone.peer_listen is None
    assert located_by(alone, 1, Configuration.of((1,), addresses={1: "a:1"})) == alone
    assert located_by(alone, 1, company).peer_listen == Address("a", 1)
    assert located_by(alone, 1, company).peer_address == Address("a", 1)
    told = begin_again(settings(peer_listen="x:9"), identity("1=a:1", "1=a:1"))
    assert located_by(told, 1, company) == told


def test_lists_that_are_out_of_date_and_lists_of_strangers() -> None:
    """One member in common: a stale list, said. None: the directory is in the wrong place."""
    begun = begin_again(settings(), identity())
    now = Configuration.of((1, 4), addresses={1: "a:1", 4: "d:4"})
    assert check_listed(settings(), begun, now) == ""
    assert check_listed(settings(cluster=THREE), begun, now) == ""
    assert "not used any more" in check_listed(settings(cluster="1=x:1,4=d:4"), begun, now)
    with pytest.raises(WrongDirectory, match="belongs to cluster"):
        check_listed(settings(cluster="1=x:1,2=y:2"), begun, now)
