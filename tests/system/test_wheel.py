"""The built wheel, installed where the checkout is not in sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Installed:
    """An environment with the wheel in it, run from a directory that is not the checkout."""

    def __init__(self, home: Path, elsewhere: Path) -> None:
        self.home = home
        self._elsewhere = elsewhere
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "TIKTOK_"))
        }

    def run(self, program: str, *arguments: str) -> str:
        """What the program prints; it must succeed and be silent on stderr."""
        result = subprocess.run(
            [self.home / "bin" / program, *arguments],
            cwd=self._elsewhere,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout


def _checked(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    home = folder / "venv"
    python = sys.executable
    _checked(python, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    _checked(python, "-m", "venv", "--without-pip", home, cwd=folder)
    pip = [python, "-m", "pip", "--python", home, "install", "--no-deps", "--no-index"]
    _checked(*pip, wheel, cwd=folder)
    # The requirements are those installed here already. A path in a .pth file is searched last,
    # and its own .pth files, such as the link to the checkout, are not read.
    packages = sysconfig.get_paths()["purelib"]
    (site,) = home.glob("lib/python*/site-packages")
    (site / "requirements.pth").write_text(packages + "\n", encoding="utf-8")
    return Installed(home, folder)


def test_the_program_is_imported_from_the_wheel(installed: Installed) -> None:
    """Otherwise the tests below would test the checkout."""
    file = installed.run("python", "-c", "import consumer; print(consumer.__file__)")
    assert Path(file).is_relative_to(installed.home)


def test_the_command_answers(installed: Installed) -> None:
    """The entry point is there and finds its commands."""
    assert "run " in installed.run("tiktok-events", "--help")
    schema = json.loads(installed.run("tiktok-events", "config", "schema"))
    assert "destinations" in schema["required"]


def test_the_example_configuration_is_printed(installed: Installed) -> None:
    """It is the same file as in the repository."""
    example = (ROOT / "deploy" / "tiktok-events.yaml").read_text(encoding="utf-8")
    assert installed.run("tiktok-events", "config", "example") == example


def test_the_schemas_are_found(installed: Installed) -> None:
    """They are inside the package, equal to those of the repository."""
    program = (
        "import json; from consumer.schemas import load_schema; "
        "print(json.dumps(load_schema('conversion_event')))"
    )
    source = (ROOT / "schemas" / "conversion_event.avsc").read_text(encoding="utf-8")
    assert json.loads(installed.run("python", "-c", program)) == json.loads(source)
    assert list(installed.home.glob("lib/python*/site-packages/consumer/schemas/*.avsc"))


def test_the_wheel_tells_that_it_is_typed(installed: Installed) -> None:
    """Type checkers read the annotations of an installed package only with `py.typed`."""
    assert list(installed.home.glob("lib/python*/site-packages/consumer/py.typed"))
