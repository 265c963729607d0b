"""README.md is executed: its commands, its Python, and its links.

The page is read block by block. ``make up`` becomes the same cluster on free ports, ``make test``
is only looked at (this test is part of it), everything else runs as it stands there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from local_cluster import QUORATE, ROOT, environment, local_cluster, on_ports

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/operations.md",
    "docs/security.md",
    "docs/compatibility.md",
    "examples/README.md",
)
BLOCK_SECONDS_MAX = 60


def blocks(text: str, language: str) -> list[str]:
    """Code blocks of one language, in the order of the page."""
    return [code for name, code in BLOCK.findall(text) if name == language]


def promised_output(python: str) -> list[str]:
    """What the page says a ``print`` gives: the comment behind it."""
    return re.findall(r"^\s*print\(.*\)  +# (.*)$", python, re.MULTILINE)


def run(command: list[str], **options: str) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        input=options.get("input"),
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def base_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with local_cluster(tmp_path_factory.mktemp("readme")) as port:
        yield port


@pytest.mark.process
def test_python_blocks_run_in_order_and_print_what_they_promise(
    readme: str, base_port: int
) -> None:
    """The first session works as shown, and prints what the page says it prints (ZK-12)."""
    program = "\n".join(blocks(readme, "python"))
    out = run([sys.executable, "-"], input=on_ports(program, base_port))
    promised = promised_output(program)
    assert len(promised) >= 2
    assert [line for line in out.splitlines() if line in promised] == promised
    assert "told of the change: True" in out


@pytest.mark.process
def test_shell_blocks_run(readme: str, base_port: int, tmp_path: Path) -> None:
    """Every shell block but the two make commands runs as it stands and exits 0 (PL-12)."""
    commands = [b for b in blocks(readme, "sh") if not b.startswith("make ")]
    assert len(commands) >= 2
    admin = ",".join(f"127.0.0.1:{base_port + 200 + k}" for k in range(3))
    for command in commands:
        text = command.replace(".venv/bin/quorate", shlex.join(QUORATE))
        text = text.replace("quorate-data", shlex.quote(str(tmp_path)))
        text = f"export QUORATE_ADMIN={admin}\n{text}"
        assert run(["/bin/sh", "-euc", on_ports(text, base_port)]).strip()


def test_the_two_commands_of_the_page_are_what_make_does(readme: str) -> None:
    """``make up`` is ``quorate up``, and ``make test`` runs every check that the page names."""
    commands = [b.strip() for b in blocks(readme, "sh") if b.startswith("make ")]
    assert commands == ["make up", "make test"]
    assert "quorate up" in run(["make", "--dry-run", "up"])
    recipe = run(["make", "--dry-run", "test"])
    steps = ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest", "conformance")
    assert [step for step in steps if step not in recipe] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Relative links of the pages name files that exist."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = LINK.findall(text)
    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert missing == []


def test_files_named_in_architecture_exist() -> None:
    """ARCHITECTURE.md leads through files that are there; a renamed one is renamed there too."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = sorted(set(re.findall(r"`((?:[a-z]+/)+(?:[a-z_-]+\.\w+)?)`", text)))
    assert len(named) > 20
    bases = (ROOT, ROOT / "src" / "quorate", ROOT / "src" / "quorate" / "consensus")
    assert [name for name in named if not any((base / name).exists() for base in bases)] == []


def test_blocks_and_promises_are_found() -> None:
    """The reader of pages sees what it should, so that an empty page cannot pass."""
    page = "```sh\nmake up\n```\ntext\n```python\nprint(1)  # 1\nx = 2  # no output\n```\n"
    assert blocks(page, "sh") == ["make up\n"]
    assert promised_output(blocks(page, "python")[0]) == ["1"]


def test_settings_on_the_operations_page_are_accepted(tmp_path: Path) -> None:
    """The TOML file that docs/operations.md shows is read without complaint."""
    from quorate.node.sources import load_settings

    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (shown,) = blocks(text, "toml")
    path = tmp_path / "quorate.toml"
    path.write_text(shown)
    settings = load_settings({}, {}, path)
    assert settings.node_id == 1
    assert len(settings.cluster) == 3


def test_settings_of_the_security_page_are_accepted(tmp_path: Path) -> None:
    """The TOML file that docs/security.md shows is one that a node takes."""
    from quorate.node.sources import load_settings

    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    (shown,) = blocks(text, "toml")
    path = tmp_path / "quorate.toml"
    path.write_text(shown)
    tls = load_settings({"id": "1", "data": str(tmp_path)}, {}, path).tls
    assert tls.peer_tls == "require"
    assert tls.client_tls == "mutual"
