"""deploy/: unit, container file and manifests fit each other and the node they start.

No systemd, container engine or Kubernetes runs here: files are parsed, and what they say is
compared with the node's settings, pages and exit codes. ``systemd-analyze`` is asked where it is.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from quorate.cli.main import cli
from quorate.node import process
from quorate.node.admin import AdminPages
from quorate.node.settings import BY_KEY
from quorate.node.sources import load_settings

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "systemd" / "quorate.service"
DOCKERFILE = ROOT / "deploy" / "container" / "Dockerfile"
MANIFESTS = ROOT / "deploy" / "kubernetes" / "quorate.yaml"

INSTRUCTIONS = {
    *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


# ---- systemd -------------------------------------------------------------------------------------


def unit() -> dict[str, dict[str, str]]:
    """Sections of the unit; a key that stands twice is an error here."""
    sections: dict[str, dict[str, str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            assert key not in section, key
            section[key] = value
    return sections


def test_the_unit_waits_watches_and_knows_when_not_to_restart() -> None:
    """Ready by notification, a watchdog, time for a clean stop, no restart after a verdict."""
    service = unit()["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["WatchdogSec"]) >= 10
    assert service["Restart"] == "on-failure"
    verdicts = {
        *(process.EXIT_SETTINGS, process.EXIT_INVARIANT),
        *(process.EXIT_DISK, process.EXIT_DIRECTORY, process.EXIT_REMOVED),
    }
    assert set(map(int, service["RestartPreventExitStatus"].split())) == verdicts
    drain_ms = load_settings({"id": "1", "data": "/d"}, {}).drain_timeout_ms
    assert int(service["TimeoutStopSec"]) * 1000 > 2 * drain_ms
    assert service["StateDirectory"] in service["ExecStart"]
    assert "AF_UNIX" in service["RestrictAddressFamilies"], "the way to the service manager"


def test_the_unit_starts_a_command_that_exists() -> None:
    """Every option of ExecStart is one of ``quorate serve``."""
    program, command, *options = shlex.split(unit()["Service"]["ExecStart"])
    assert Path(program).name == "quorate"
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    known = {name for each in found.params for name in each.opts}
    assert {option for option in options if option.startswith("-")} <= known


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """No unknown key, no bad value. The program is put where the unit can find one."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/quorate/bin/quorate", "/bin/true")
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    about_ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert about_ours == [], done.stderr


# ---- container -----------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found = [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]
    assert {name for name, _ in found} <= INSTRUCTIONS
    return found


def container() -> dict[str, str]:
    """The last word on each instruction of the final stage."""
    parsed = instructions()
    last = max(place for place, (name, _) in enumerate(parsed) if name == "FROM")
    return dict(parsed[last:])


def image_environ() -> dict[str, str]:
    pairs = shlex.split(container()["ENV"])
    return dict(pair.split("=", 1) for pair in pairs)


def test_the_image_copies_what_is_there() -> None:
    """Sources exist, are not hidden by .dockerignore, and suffice to build the package."""
    shown = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = set()
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            copied |= {Path(word).name for word in arguments.split()[:-1]}
    assert copied == shown
    assert all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for needed in re.findall(r'^(?:readme|license-files) = .*?"([^"]+)"', project, re.MULTILINE):
        assert needed in copied


def test_the_image_runs_a_node_that_is_not_root() -> None:
    """Its variables are settings that a node accepts; the data directory is a volume."""
    image = container()
    assert not image["USER"].startswith(("root", "0"))
    assert image["ENTRYPOINT"] == '["quorate"]', "exec form: signals reach the node"
    assert image["CMD"] == '["serve"]'
    settings = load_settings({"id": "1"}, image_environ())
    assert str(settings.data) == image["VOLUME"]
    addresses = (settings.listen, settings.peer_listen, settings.admin_listen)
    assert image["EXPOSE"].split() == [str(each.port) for each in addresses if each]
    assert "/live" in image["HEALTHCHECK"]
    assert "PYTHONOPTIMIZE" not in image_environ(), "assertions guard the data"


# ---- Kubernetes ----------------------------------------------------------------------------------


def manifests() -> dict[tuple[str, str], Any]:
    documents = yaml.safe_load_all(MANIFESTS.read_text(encoding="utf-8"))
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def pod() -> Any:
    return manifests()["StatefulSet", "quorate"]["spec"]["template"]


def test_everything_selects_the_same_pods() -> None:
    """Services, budget, set and affinity name the labels that the pods have."""
    labels = pod()["metadata"]["labels"]
    objects = manifests()
    peers, clients = objects["Service", "quorate-peers"], objects["Service", "quorate"]
    budget, nodes = objects["PodDisruptionBudget", "quorate"], objects["StatefulSet", "quorate"]
    affinity = pod()["spec"]["affinity"]["podAntiAffinity"]
    [apart] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert peers["spec"]["selector"] == clients["spec"]["selector"] == labels
    for holder in (budget["spec"]["selector"], nodes["spec"]["selector"], apart["labelSelector"]):
        assert holder["matchLabels"] == labels
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert budget["spec"]["maxUnavailable"] == 1
    assert nodes["spec"]["serviceName"] == "quorate-peers"
    assert peers["spec"]["clusterIP"] == "None"
    assert peers["spec"]["publishNotReadyAddresses"] is True


def test_every_pod_is_a_node_of_the_same_cluster() -> None:
    """The variables make settings that nodes accept, one member per replica, by its pod's name."""
    nodes = manifests()["StatefulSet", "quorate"]["spec"]
    [container] = pod()["spec"]["containers"]
    environ = {each["name"]: each["value"] for each in container["env"]}
    for ordinal in range(nodes["replicas"]):
        settings = load_settings({"id": str(ordinal + 1)}, image_environ() | environ)
        host, port = settings.cluster[ordinal + 1]
        assert host == f"quorate-{ordinal}.quorate-peers"
        assert port == settings.peer_listen.port
        assert len(settings.cluster) == nodes["replicas"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert settings.admin_listen is not None
    assert ports == {
        "clients": settings.listen.port,
        "peers": settings.peer_listen.port,
        "admin": settings.admin_listen.port,
    }
    [mount] = container["volumeMounts"]
    assert settings.data.is_relative_to(mount["mountPath"])
    assert nodes["volumeClaimTemplates"][0]["metadata"]["name"] == mount["name"]
    # Kubernetes would add variables named after the service quorate: QUORATE_PORT, and so on.
    assert pod()["spec"]["enableServiceLinks"] is False


def test_node_ids_come_from_ordinals() -> None:
    """The shell's arithmetic gives 1 for pod 0, 11 for pod 10."""
    [container] = pod()["spec"]["containers"]
    [script] = container["args"]
    for host, node_id in (("quorate-0", "1"), ("quorate-10", "11")):
        done = subprocess.run(
            [*container["command"], script.replace("exec quorate", "echo")],
            env={"HOSTNAME": host, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        assert done.stdout.split() == ["serve", "--id", node_id]


def test_probes_ask_pages_that_exist_and_only_readiness_waits_for_a_quorum() -> None:
    """A node without a quorum must not be restarted for it; stopping leaves time to hand over."""
    [container] = pod()["spec"]["containers"]
    ready = ["no leader is known"]
    pages = AdminPages(dict, lambda: ready[0], str)
    expected = {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 503}
    for probe, code in expected.items():
        asked = container[probe]["httpGet"]
        assert asked["port"] == "admin"
        assert pages.answer("GET", asked["path"])[0] == code
    ready[0] = ""
    assert pages.answer("GET", container["readinessProbe"]["httpGet"]["path"])[0] == 200
    assert "cpu" not in container["resources"]["limits"], "throttling costs leadership"
    settings = load_settings({"id": "1", "data": "/d"}, {})
    grace_ms = pod()["spec"]["terminationGracePeriodSeconds"] * 1000
    assert grace_ms > 2 * settings.drain_timeout_ms
    assert pod()["spec"]["securityContext"]["runAsNonRoot"] is True


def test_user_ids_agree() -> None:
    """The pod runs as the user that owns what the image made."""
    context = pod()["spec"]["securityContext"]
    user = f"{context['runAsUser']}:{context['runAsGroup']}"
    assert container()["USER"] == user
    assert {"id", "data", "cluster"} <= set(BY_KEY)
