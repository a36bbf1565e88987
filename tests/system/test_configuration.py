"""A wrong configuration, seen from outside: the installed command and what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("tiktok-events")
CANARY = "canary0123456789canary0123456789canary01"


def tiktok_events(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TIKTOK_")}
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_wrong_key_is_named_with_its_path_in_one_go(tmp_path: Path) -> None:
    """Exit 2, a line each, no traceback, and the token written into the file is not echoed."""
    (tmp_path / "wrong.yaml").write_text(
        f"""
kafka:
  bootstrap_server: localhost:9092
  properties: {{enable.auto.commit: true, sasl.password: {CANARY}}}
destinations:
  - event_source_id: PIXEL
    access_token: {CANARY}
  - event_source_id: OTHER
    access_token: {{file: missing/token}}
default_destination: THIRD
tiktok: {{timeout: 10}}
batching: {{max_events: 1001}}
retry: {{give_up_after: 48h}}
identity: [{CANARY}]
workers: four
""",
        encoding="utf-8",
    )
    result = tiktok_events("run", "-c", "wrong.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert {line.partition(": ")[0] for line in result.stderr.splitlines()} == {
        "kafka.bootstrap_server",
        "kafka.properties.enable.auto.commit",
        "destinations[0].access_token",
        "destinations[1].access_token",
        "default_destination",
        "tiktok.timeout",
        "batching.max_events",
        "retry.give_up_after",
        "identity",
        "workers",
    }
    assert "Traceback" not in result.stderr
    assert CANARY not in result.stderr


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    """It says where a configuration can be named."""
    result = tiktok_events("run", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "tiktok-events.yaml: no such file or directory; "
        "name a configuration file with -c, or in TIKTOK_EVENTS_CONFIG\n"
    )


def test_a_file_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    """A binary file given by mistake ends neither in a traceback nor on the terminal."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00kafka")
    result = tiktok_events("config", "show", "-c", "binary", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (2, "binary: is not UTF-8 text\n")


def test_the_configuration_shown_holds_no_secret(tmp_path: Path) -> None:
    """`config show` is what an operator pastes into a ticket."""
    (tmp_path / "token").write_text(CANARY, encoding="utf-8")
    (tmp_path / "tiktok-events.yaml").write_text(
        """
kafka: {properties: {security.protocol: SASL_SSL, sasl.password: "${PASSWORD}"}}
schema: {registry_auth: {username: reader, password: {env: PASSWORD}}}
destinations: [{event_source_id: PIXEL, access_token: {file: token}}]
""",
        encoding="utf-8",
    )
    result = tiktok_events("config", "show", cwd=tmp_path, PASSWORD=CANARY)
    assert (result.returncode, result.stderr) == (0, "")
    assert "sasl.password: '********'" in result.stdout
    assert "file: token" in result.stdout
    assert CANARY not in result.stdout
