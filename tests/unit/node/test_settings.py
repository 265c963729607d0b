"""Settings: precedence of sources, and refusals that name the source and the way out."""

from pathlib import Path

import pytest

from quorate.errors import SettingsError
from quorate.node.settings import SETTINGS, cluster_digest
from quorate.node.sources import load_settings
from quorate.node.tls_settings import TLS_SETTINGS
from quorate.node.units import Address, parse_cluster

FLAGS = {"id": "1", "data": "/data"}


def write(path: Path, text: str) -> Path:
    file = path / "quorate.toml"
    file.write_text(text)
    return file


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Each source overrides the ones below it, and only for what it says."""
    file = write(tmp_path, 'tick = "3s"\nheartbeat = "30ms"\nelection-timeout = "900ms"\n')
    environ = {"QUORATE_TICK": "4s", "QUORATE_HEARTBEAT": "40ms", "HOME": "/"}
    settings = load_settings(FLAGS | {"tick": "5s"}, environ, file)
    assert settings.tick_ms == 5000
    assert settings.heartbeat_ms == 40
    assert settings.election_timeout_ms == 900
    assert settings.listen == Address("127.0.0.1", 2181)


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    """``QUORATE_CONFIG`` is used when ``--config`` is not given."""
    file = write(tmp_path, 'tick = "3s"\n')
    assert load_settings(FLAGS, {"QUORATE_CONFIG": str(file)}).tick_ms == 3000


def test_cluster_as_text_or_as_table(tmp_path: Path) -> None:
    """The file may name the members in one line or in a table."""
    text = write(tmp_path, 'cluster = "1=a:1,2=b:2"\n')
    from_text = load_settings(FLAGS, {}, text).cluster
    table = write(tmp_path, '[cluster]\n1 = "a:1"\n2 = "b:2"\n')
    assert load_settings(FLAGS, {}, table).cluster == from_text == parse_cluster("1=a:1,2=b:2")


@pytest.mark.parametrize(
    ("flags", "environ", "toml", "words"),
    [
        ({}, {"QUORATE_ELECTON_TIMEOUT": "1s"}, "", "did you mean QUORATE_ELECTION_TIMEOUT"),
        ({}, {}, 'electon_timeout = "1s"', "electon_timeout is no setting; did you mean elec"),
        ({}, {}, "xyzzy = 1", "known: admin_changes"),
        ({"tick": "5"}, {}, "", "--tick: '5' has no unit"),
        ({}, {"QUORATE_TICK": "5"}, "", "environment QUORATE_TICK: '5' has no unit"),
        ({}, {}, "tick = 5", "toml: tick: '5' has no unit"),
        ({}, {}, "tick = true", "write it as text"),
        ({}, {}, "tick = ", "is no TOML"),
        ({}, {}, "[cluster]\none = 1", "one line per node"),
        ({}, {}, '[cluster]\n1 = "nowhere"', "cluster: 'nowhere' is not HOST:PORT"),
        ({"id": "3", "cluster": "1=a:1,2=b:2"}, {}, "", "--cluster names only 1, 2"),
        ({"heartbeat": "400ms"}, {}, "", "at most a third"),
        ({"admin_listen": "127.0.0.1:2181"}, {}, "", "are both 127.0.0.1:2181"),
        ({"log_level": "loud"}, {}, "", "choose one of debug"),
        ({"super_digest": "root"}, {}, "", "super:<base64"),
        ({"id": "0"}, {}, "", "start at 1"),
        ({"tick": "900ms"}, {}, "", "at least twice the election timeout"),
        ({"join": "a:1", "cluster": "1=b:1"}, {}, "", "contradict each other"),
        ({"join": "a"}, {}, "", "--join: 'a' is not HOST:PORT"),
        ({"join_as": "boss"}, {}, "", "choose one of voter, learner, witness"),
        ({"admin_changes": "maybe"}, {}, "", "choose one of loopback, always, never"),
    ],
)
def test_refusals_name_the_source_and_the_way_out(
    flags: dict[str, str], environ: dict[str, str], toml: str, words: str, tmp_path: Path
) -> None:
    """Whatever is wrong, the message says where it was said and what to do."""
    file = write(tmp_path, toml)
    with pytest.raises(SettingsError, match=words):
        load_settings(FLAGS | flags, environ, file)


def test_missing_file() -> None:
    """A settings file that is not there is refused, not ignored."""
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(FLAGS, {}, Path("/nonexistent/quorate.toml"))


@pytest.mark.parametrize("missing", ["id", "data"])
def test_required_settings(missing: str) -> None:
    """What has no default is asked for, in every way it can be given."""
    flags = {key: text for key, text in FLAGS.items() if key != missing}
    with pytest.raises(SettingsError, match=f"--{missing} is missing.*QUORATE_{missing.upper()}"):
        load_settings(flags, {})


def test_every_setting_has_its_three_names_and_a_field() -> None:
    """Flag, variable and file key follow from one name; every default passes its own parser."""
    settings = load_settings(FLAGS, {})
    for setting in SETTINGS:
        assert setting.flag == "--" + setting.key.replace("_", "-")
        assert setting.variable == "QUORATE_" + setting.key.upper()
        assert hasattr(settings, setting.field) or setting in TLS_SETTINGS
        assert setting.help.endswith(".")


def test_cluster_digest_tells_clusters_apart() -> None:
    """Equal members in any order are one cluster; any other member or address is another."""
    three = cluster_digest(parse_cluster("1=a:1,2=b:2,3=c:3"))
    assert three == cluster_digest(parse_cluster("3=c:3,1=a:1,2=b:2"))
    assert len(three) == 16
    for other in ("1=a:1,2=b:2", "1=a:1,2=b:2,3=c:4", "1=a:1,2=b:2,4=c:3"):
        assert three != cluster_digest(parse_cluster(other))


def test_a_single_node_is_a_cluster_of_one() -> None:
    """Without ``--cluster`` the node is alone, under its own peer address."""
    settings = load_settings(FLAGS | {"peer_listen": "127.0.0.1:9"}, {})
    assert settings.cluster == {1: Address("127.0.0.1", 9)}
    assert not settings.is_cluster_given


def test_how_to_read_and_how_far_clocks_may_drift() -> None:
    """Reads are local unless asked otherwise; a drift bound is rounded to the safe side."""
    assert load_settings(FLAGS, {}).reads == "local"
    environ = {"QUORATE_READS": "Lease", "QUORATE_CLOCK_DRIFT_BOUND": "1.234"}
    settings = load_settings(FLAGS, environ)
    assert (settings.reads, settings.clock_drift_percent) == ("lease", 124)
    assert load_settings(FLAGS, {}).clock_drift_percent == 110
    for key, wrong in (("reads", "fresh"), ("clock_drift_bound", "0.9")):
        with pytest.raises(SettingsError, match=wrong):
            load_settings(FLAGS | {key: wrong}, {})
    for wrong in ("2.1", "much", "nan", "inf"):
        with pytest.raises(SettingsError, match=wrong):
            load_settings(FLAGS | {"clock_drift_bound": wrong}, {})
