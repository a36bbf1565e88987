"""From the text of a configuration file and the environment to one tree of plain values.

YAML is read by the core schema of YAML 1.2: `no`, `on` and `10:30` are text, as a person expects,
and a time stays text. A key given twice is a problem, not the second one's victory.
`${NAME}` and `${NAME:-default}` in a value are replaced by the environment; `$${` is a plain `${`.
Every key can also be given as `TIKTOK_EVENTS__SECTION__KEY`, over the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from consumer.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Path = tuple[str | int, ...]
"""Where a value stands in the tree: keys and list indexes."""

ENVIRONMENT_PREFIX: Final = "TIKTOK_EVENTS__"

_PROPERTIES: Final = ("kafka", "properties")
_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}|\$\{")
_SET_ASIDE: Final = re.compile("\ue000([0-9]+)\ue001")


@dataclass(slots=True)
class Tree:
    """What was read: `values` as plain dicts, lists and scalars, and what was wrong on the way.

    `origins` names the environment variable of each value that did not come from the file.
    """

    values: dict[str, Any] = field(default_factory=dict)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    origins: dict[Path, str] = field(default_factory=dict)


def dotted(path: Path) -> str:
    """A path as a person writes it: `destinations[1].access_token`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_tree(text: str, environ: Mapping[str, str]) -> Tree:
    """Reads the file's text and lays the environment over it. Problems are in the result."""
    tree = Tree()
    references: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        references.append(match[0])
        return f"\ue000{len(references) - 1}\ue001"

    _read_yaml(_REFERENCE.sub(set_aside, text), tree)
    if not any(not path for path, _ in tree.problems):
        tree.values = _Interpolation(references, environ, tree).apply(tree.values, ())
        _overlay(tree, environ)
    return tree


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own declaration


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""]
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Decimal, also with leading zeros; PyYAML would read those as octal."""
    return int(str(loader.construct_scalar(node)))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def _read_yaml(text: str, tree: Tree) -> None:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return
            tree.problems.extend(_key_problems(node, (), set()))
            values = loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        tree.problems.append(((), f"is no YAML: {_where(error)}"))
        return
    if isinstance(values, dict):
        tree.values = values
    else:
        tree.problems.append(((), "must be a mapping of sections such as kafka: and destinations:"))


def _where(error: Exception) -> str:
    """Line and problem, without the text at fault: it may be a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be read"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _key_problems(node: yaml.Node, path: Path, seen: set[int]) -> Iterator[tuple[Path, str]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _key_problems(child, (*path, index), seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, child in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            line = key.start_mark.line + 1
            if name in lines and key.tag != "tag:yaml.org,2002:merge":
                yield (*path, name), f"is given twice, in lines {lines[name]} and {line}"
            lines[name] = line
            yield from _key_problems(child, (*path, name), seen)


class _Interpolation:
    """Puts the environment's values where the references were set aside.

    They are set aside before YAML is read, so that `{rate: ${RATE}}` needs no quotes and a value
    of the environment can be no YAML of its own by accident.
    """

    def __init__(self, references: list[str], environ: Mapping[str, str], tree: Tree) -> None:
        self._references = references
        self._environ = environ
        self._tree = tree

    def apply(self, value: Any, path: Path) -> Any:
        """The value with all references replaced, at any depth; keys keep their text."""
        if isinstance(value, dict):
            named = [(self._as_written(str(key)), child) for key, child in value.items()]
            return {key: self.apply(child, (*path, key)) for key, child in named}
        if isinstance(value, list):
            return [self.apply(child, (*path, index)) for index, child in enumerate(value)]
        if not isinstance(value, str):
            return value
        text = _SET_ASIDE.sub(lambda match: self._resolve(match, path), value)
        whole = _SET_ASIDE.fullmatch(value) is not None
        return _structure(text, path, self._tree) if whole else text

    def _as_written(self, text: str) -> str:
        return _SET_ASIDE.sub(lambda match: self._references[int(match[1])], text)

    def _resolve(self, match: re.Match[str], path: Path) -> str:
        reference = self._references[int(match[1])]
        if reference == "$${":
            return "${"
        parts = _REFERENCE.fullmatch(reference)
        if parts is None or parts[1] is None:
            self._tree.problems.append(
                (path, "has a ${ without an end; write ${NAME}, ${NAME:-default}, or $${ for text")
            )
            return ""
        name, found = parts[1], self._environ.get(parts[1])
        if parts[2]:
            return found or parts[3]
        if found is None:
            mend = f"set it, or write ${{{name}:-default}}"
            self._tree.problems.append(
                (path, f"needs the environment variable {name}, which is not set; {mend}")
            )
        return found or ""


def _overlay(tree: Tree, environ: Mapping[str, str]) -> None:
    names = [name for name in environ if name.startswith(ENVIRONMENT_PREFIX)]
    # Shallow ones first: a whole section or list, then single keys over it.
    for name in sorted(names, key=lambda name: (name.count("__"), name)):
        path = _path_of(name)
        if not all(part != "" for part in path):
            tree.problems.append(((name,), "is not the name of a key"))
            continue
        value = _structure(environ[name], path, tree)
        missing = _put(tree.values, path, value)
        if missing:
            tree.problems.append((path, f"{missing} (environment variable {name})"))
        else:
            tree.origins[path] = name


def _path_of(name: str) -> Path:
    parts: Path = tuple(
        int(part) if part.isdigit() else part
        for part in name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    )
    if parts[:2] == _PROPERTIES and len(parts) > len(_PROPERTIES):
        # Property names have dots where variables have underscores.
        return (*_PROPERTIES, ".".join(str(part).replace("_", ".") for part in parts[2:]))
    return parts


def _structure(text: str, path: Path, tree: Tree) -> Any:
    """Text from the environment: a list or mapping where it is one in YAML or JSON, else text."""
    if path[: len(_PROPERTIES)] == _PROPERTIES and len(path) > len(_PROPERTIES):
        return text  # a password may look like anything
    if text == "null":
        return None
    try:
        value = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader with fewer scalar types
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if text.lstrip().startswith(("[", "{")):
            tree.problems.append((path, f"is no YAML or JSON: {_where(error)}"))
        return text
    return value if isinstance(value, (dict, list)) else text


def _put(values: dict[str, Any], path: Path, value: Any) -> str | None:
    """Sets a value, making what is missing on the way. A sentence where there is no such place."""
    here: Any = values
    for depth, part in enumerate(path):
        refusal = _refusal(here, part)
        if refusal:
            return refusal
        if part == _length(here):
            here.append(None)
        following = path[depth + 1 :]
        if not following:
            here[part] = value
        elif _child(here, part) is None:
            here[part] = [] if isinstance(following[0], int) else {}
        here = here[part]
    return None


def _child(here: Any, part: str | int) -> Any:
    return here[part] if isinstance(part, int) else here.get(part)


def _length(here: object) -> int | None:
    return len(here) if isinstance(here, list) else None


def _refusal(here: object, part: str | int) -> str | None:
    if isinstance(here, list):
        if isinstance(part, int) and part <= len(here):
            return None
        return f"is no entry of a list of {len(here)}"
    return None if isinstance(here, dict) and isinstance(part, str) else "is no place for a value"


def as_problems(found: list[tuple[Path, str]]) -> tuple[Problem, ...]:
    """Problems as they are shown; of several at one place the first, which caused the others."""
    first: dict[Path, str] = {}
    for path, message in found:
        first.setdefault(path, message)
    return tuple(Problem(dotted(path), message) for path, message in first.items())
