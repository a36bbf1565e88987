"""Secrets: where one comes from (configuration) and the thing itself (never shown).

The file of the configuration names a place, an environment variable or a file; the secret is read
from there when it is needed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from consumer.errors import SecretError

MASK: Final = "********"
"""What is shown in a secret's place."""

_SECRET_ENDINGS: Final = ("password", "secret", "passphrase", "key.pem", "token")
_SECRET_PROPERTIES: Final = frozenset({"sasl.oauthbearer.config", "sasl.oauthbearer.extensions"})

LONGEST_SECRET: Final = 16 * 1024
"""Bytes read of a secret's file: a path that names something else is noticed, not read whole."""


class Secret:
    """A secret in memory. Only `reveal` gives it out; `repr`, `str` and format show a mask."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> str:
        # A pickled secret would be one in plain text, wherever it lands.
        raise TypeError("a secret is not copied out of the process")


class SecretSource(BaseModel):
    """Where a secret is read from: `{env: NAME}` or `{file: PATH}`, exactly one of them."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        json_schema_extra={"oneOf": [{"required": ["env"]}, {"required": ["file"]}]},
    )

    env: str | None = Field(default=None, json_schema_extra={"type": "string"})
    """Name of the environment variable that holds the secret."""
    file: Path | None = Field(default=None, json_schema_extra={"type": "string"})
    """Path of the file that holds the secret; a changed file is picked up without a restart."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_the_secret_itself(cls, value: Any) -> Any:
        if isinstance(value, (str, int, float)):
            raise PydanticCustomError(
                "secret_in_file",
                "a secret does not belong into the configuration: name its place, "
                "{env: NAME} or {file: PATH}",
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise PydanticCustomError("one_place", "give exactly one of env and file")
        if self.env is not None and not _is_variable_name(self.env):
            raise PydanticCustomError(
                "not_a_name", "env must be the name of an environment variable, not the secret"
            )
        if self.file is not None and _looks_like_a_token(str(self.file)):
            raise PydanticCustomError("not_a_path", "file must be a path, not the secret")
        return self

    def read(self, environ: Mapping[str, str]) -> Secret:
        """Reads the secret now, without the white space around it.

        Args:
            environ: the environment to look `env` up in.

        Raises:
            SecretError: the variable is not set, the file cannot be read, what is there is empty,
                or it cannot stand in an HTTP header.
        """
        text = self._read_file(self.file) if self.file else self._read_variable(environ)
        text = text.strip()
        if not text:
            raise SecretError(f"{self.place} is empty", "put the secret there")
        if not (text.isascii() and text.isprintable()):
            raise SecretError(
                f"{self.place} holds more than a secret",
                "put the secret there alone, on one line of printable ASCII",
            )
        return Secret(text)

    @property
    def place(self) -> str:
        """The place in words: `environment variable NAME` or `file PATH`."""
        return f"file {self.file}" if self.file else f"environment variable {self.env}"

    def _read_variable(self, environ: Mapping[str, str]) -> str:
        value = environ.get(self.env or "")
        if value is None:
            raise SecretError(f"{self.place} is not set", "set it, or name another place")
        return value

    def _read_file(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                content = file.read(LONGEST_SECRET + 1)
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            raise SecretError(
                f"{self.place}: {reason}", "mount it, or let this user read it"
            ) from error
        if len(content) > LONGEST_SECRET:
            raise SecretError(f"{self.place} is too long for a secret", "check the path")
        return content.decode("utf-8", errors="replace")

    @model_serializer
    def _as_written(self) -> dict[str, str]:
        return {"file": str(self.file)} if self.file else {"env": str(self.env)}

    def __str__(self) -> str:
        """As in the file: `{env: NAME}`."""
        return f"{{file: {self.file}}}" if self.file else f"{{env: {self.env}}}"

    def __repr__(self) -> str:
        return str(self)


def is_secret_property(name: str) -> bool:
    """Whether the value of a librdkafka property is masked wherever it is shown.

    Covers `sasl.password`, `ssl.key.password`, `ssl.keystore.password`, `ssl.key.pem`,
    `sasl.oauthbearer.client.secret`, the passphrases and private keys of OAUTHBEARER assertions,
    and properties yet to come that are named alike. Case is ignored: librdkafka refuses a name in
    the wrong case, but what it was given is logged before that.
    """
    name = name.lower()
    return name in _SECRET_PROPERTIES or name.endswith(_SECRET_ENDINGS)


def _is_variable_name(name: str) -> bool:
    """TikTok's tokens are 40 hex digits, which a shell would take for a name, a person never."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and not _looks_like_a_token(
        name
    )


def _looks_like_a_token(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{32,}", text) is not None
