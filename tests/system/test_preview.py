"""`preview`, seen from outside: the installed command, a file or standard input, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("tiktok-events")
NOWHERE = "http://127.0.0.1:9"
CANARY = "canary.person@mail.example"


def run(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TIKTOK_")}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)
    return subprocess.run(
        [COMMAND, "preview", *arguments],
        cwd=folder,
        env=inherited | proxies,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def configured(folder: Path) -> str:
    """A configuration whose broker, registry and token are not there."""
    (folder / "c.yaml").write_text(
        f"""
kafka: {{bootstrap_servers: "127.0.0.1:9"}}
schema: {{registry_url: "{NOWHERE}"}}
destinations:
  - {{event_source_id: PIXEL, access_token: {{file: /not/there}}}}
""",
        encoding="utf-8",
    )
    return "c.yaml"


def event(**fields: Any) -> str:
    return json.dumps(
        {
            "event_id": "order-1",
            "event": "purchase",
            "event_time": int(time.time() * 1000),
            "page": {"url": "https://shop.example/thanks"},
            "user": {"email": CANARY, "external_id": 77},
            "consent": {"marketing": "GRANTED", "ad_user_data": "GRANTED"},
        }
        | fields
    )


def test_the_request_is_printed_as_json(tmp_path: Path) -> None:
    """From standard input; digests where identifiers were, the number as text before it."""
    result = run(tmp_path, "-c", configured(tmp_path), "--json", "-", given=event())
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert set(shown) == {
        "outcome",
        "reason",
        "field",
        "detail",
        "destination",
        "warnings",
        "request",
    }
    assert set(shown["request"]) == {"method", "url", "headers", "body"}
    assert shown["request"]["headers"]["Access-Token"] == "***"
    (sent,) = shown["request"]["body"]["data"]
    # SHA-256 of "canary.person@mail.example" and of "77", by sha256sum.
    assert sent["user"] == {
        "email": "40a9782d418c75300772000d1684e83b70f89d45ffbc92784546f2a0f9784747",
        "external_id": "a88a7902cb4ef697ba0b6759c50e8c10297ff58f942243de19b984841bfe1f73",
    }
    assert CANARY not in result.stdout


def test_a_person_gets_a_page_without_escape_codes_in_a_file(tmp_path: Path) -> None:
    """Colours are for terminals; the identifiers are digests here as well."""
    (tmp_path / "e.json").write_text(event(), encoding="utf-8")
    result = run(tmp_path, "-c", configured(tmp_path), "e.json")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Would be sent as CompletePayment to web PIXEL\n")
    assert "\x1b" not in result.stdout
    assert CANARY not in result.stdout


def test_a_dead_letter_exits_1_and_a_suppressed_event_0(tmp_path: Path) -> None:
    """A deployment's check can rely on it."""
    config = configured(tmp_path)
    letter = run(tmp_path, "-c", config, "--json", "-", given=event(page=None))
    assert letter.returncode == 1
    assert (json.loads(letter.stdout)["reason"], json.loads(letter.stdout)["field"]) == (
        "invalid",
        "page.url",
    )
    held = run(tmp_path, "-c", config, "--json", "-", given=event(consent=None))
    assert (held.returncode, json.loads(held.stdout)["outcome"]) == (0, "suppressed")


def test_what_cannot_be_read_exits_2(tmp_path: Path) -> None:
    """No file, no JSON, several events, no configuration: a sentence each, and nothing else."""
    config = configured(tmp_path)
    two = f"{event()}\n{event()}\n"
    for arguments, given, words in (
        (("-c", config, "none.json"), "", "none.json: no such file or directory"),
        (("-c", config, "-"), "purchase", "standard input: is no JSON"),
        (("-c", config, "-"), two, "standard input: holds more than one JSON document"),
        (("-c", "none.yaml", "-"), event(), "none.yaml: no such file or directory"),
        (("-c", config), event(), "Missing argument"),
    ):
        result = run(tmp_path, *arguments, given=given)
        assert (result.returncode, result.stdout) == (2, "")
        assert words in result.stderr
        assert "Traceback" not in result.stderr
