"""Which part of the collection may import which."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PREFIX = "ansible_collections.fivepointers.platform.plugins."
#: Part -> what it may import besides itself. A part is a folder, or a file that stands beside the folders.
MODULE_UTILS = {
    "common": set(),
    "release": {"common"},
    "build": {"common"},
    "aws": {"common"},
}
#: What else they may import: hosts have the standard library, and Ansible brings its own module_utils. What runs where
#: AWS's libraries are may use these.
OURS, AWS = "fivepointers.platform", "amazon.aws"
OURS_WHOLE = f"ansible_collections.{OURS}.plugins"
OTHERS: dict[str, dict[str, set[str]]] = {
    "module_utils": {"ansible_collections": {OURS}},
    "module_utils/build": {"ansible": set(), "cryptography": set(), "detect_secrets": set()},
    "module_utils/aws": {"ansible_collections": {OURS, AWS}, "ansible": set(), "botocore": set(), "yaml": set()},
    "modules": {"ansible_collections": {OURS, AWS}, "ansible": set(), "botocore": set(), "yaml": set()},
}
PLUGIN_UTILS = {
    "catalogue": set(),
    "plan": {"catalogue"},
    "edge": {"catalogue", "plan"},
    "checks": {"catalogue", "plan"},
    "verify": {"catalogue", "plan"},
    "provision": {"catalogue", "plan", "edge"},
    "deploy": {"catalogue", "plan", "verify"},
    "picture": {"catalogue", "plan", "provision"},
    "filters": {"catalogue", "plan", "edge", "checks", "verify", "provision", "deploy", "picture", "loading"},
    "loading": {"catalogue", "plan", "edge", "checks", "verify", "provision", "deploy"},
}
#: Violations that are there, as (importing part, imported part). Empty this; add nothing.
EXCEPTIONS: set[tuple[str, str]] = set()


def imported(source: str) -> set[str]:
    """Return the full names of what a file imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "an import is relative: ansible-test and AnsiballZ want full names"
            # `from package import module` and `from module import name` look the same.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def of_ours(names: set[str]) -> list[str]:
    """Return those of the collection, without the common prefix."""
    return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))


def violations(place: str, source: str) -> list[str]:
    """Return what a file below plugins/ imports against the rules."""
    kind, _slash, rest = place.partition("/")
    part = rest.partition("/")[0].removesuffix(".py")
    names = imported(source)
    found = []
    # `from …platform import plugins` or `from …plugins import plugin_utils` would open all parts.
    ours = sorted(name for name in names if name.startswith(f"ansible_collections.{OURS}"))
    found += [f"{place} imports {name}" for name in ours if "." not in name.removeprefix(PREFIX) or name == OURS_WHOLE]
    for name in of_ours(names):
        target, dot, other = name.partition(".")
        if not dot:
            continue
        other = other.partition(".")[0]
        if kind == "module_utils":
            allowed = target == "module_utils" and other in {part, *MODULE_UTILS[part]}
        elif kind == "modules":
            allowed = target == "module_utils"
        elif kind == "plugin_utils":
            allowed = target == "module_utils" or (
                target == "plugin_utils" and (other in {part, *PLUGIN_UTILS[part]} or (part, other) in EXCEPTIONS)
            )
        else:
            allowed = target in ("module_utils", "plugin_utils") or target == kind
        if not allowed:
            found.append(f"{place} imports {name}")
    if kind in OTHERS:
        roots = {**OTHERS[kind], **OTHERS.get(f"{kind}/{part}", {})}
        for name in sorted(names):
            root, *below = name.split(".")
            known = sys.stdlib_module_names | set(roots)
            if root not in known or (root == "ansible_collections" and ".".join(below[:2]) not in roots[root]):
                found.append(f"{place} imports {name}")
    return found


def test_parts_import_only_what_is_below_them(root: Path) -> None:
    plugins = root / "plugins"
    found = []
    for path in sorted(plugins.rglob("*.py")):
        if path.name == "__init__.py" and not path.read_text().strip():
            continue
        found += violations(path.relative_to(plugins).as_posix(), path.read_text())
    assert found == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("module_utils/common/files.py", "module_utils.release import leases"),
        ("module_utils/release/files.py", "module_utils.aws.agent import units"),
        ("module_utils/aws/unused.py", "plugin_utils.provision.schedule import is_production"),
        ("modules/release.py", "plugin_utils.plan.plan import Model"),
        ("plugin_utils/catalogue/values.py", "plugin_utils import loading"),
        ("plugin_utils/verify/run.py", "plugin_utils.deploy import probe"),
        ("plugin_utils/plan/plan.py", "action.release import compose"),
        ("filter/aws.py", "action.release import compose"),
    ],
)
def test_a_wrong_import_is_noticed(place: str, line: str) -> None:
    assert violations(place, f"from {PREFIX}{line}\n") == [f"{place} imports {line.replace(' import ', '.')}"]


def test_a_right_import_is_none(root: Path) -> None:
    line = f"from {PREFIX}module_utils.common import files\nimport {PREFIX}module_utils.release.leases\n"
    assert violations("module_utils/release/releases.py", line) == []
    assert violations("modules/deployment.py", line) == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("module_utils/common/schema.py", "yaml"),
        ("module_utils/release/releases.py", "jinja2"),
        ("modules/release.py", "ansible_collections.community.general.plugins.module_utils.x"),
        ("module_utils/common/schema.py", OURS_WHOLE),
        ("module_utils/common/schema.py", f"{PREFIX}plugin_utils"),
    ],
)
def test_what_a_host_may_lack_is_noticed(place: str, name: str) -> None:
    assert violations(place, f"import {name}\n") == [f"{place} imports {name}"]


def test_every_part_has_a_rule(root: Path) -> None:
    for folder, rules in (("module_utils", MODULE_UTILS), ("plugin_utils", PLUGIN_UTILS)):
        parts = {
            path.name.removesuffix(".py")
            for path in (root / "plugins" / folder).iterdir()
            if path.name not in ("__init__.py", "__pycache__")
        }
        assert parts == set(rules)


def test_exceptions_are_still_needed(root: Path) -> None:
    used = set()
    base = root / "plugins/plugin_utils"
    for path in base.rglob("*.py"):
        part = path.relative_to(base).parts[0].removesuffix(".py")
        for name in of_ours(imported(path.read_text())):
            target, other = name.split(".")[:2]
            if target == "plugin_utils" and (part, other) in EXCEPTIONS:
                used.add((part, other))
    assert used == EXCEPTIONS
