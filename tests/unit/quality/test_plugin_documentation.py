"""Ansible reads the documentation of plugins as YAML when it loads some of them: a colon too many stops a run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("action", "doc_fragments", "filter", "inventory", "lookup", "modules")
PLUGINS = sorted(path for folder in FOLDERS for path in (ROOT / "plugins" / folder).glob("*.py"))
TEXTS = ("DOCUMENTATION", "RETURN")


def documents(source: str) -> dict[str, Any]:
    """Return the YAML documents of a plugin, by the name of their variable."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            name = node.targets[0].id
            if isinstance(node.value, ast.Constant) and (name in TEXTS or "options" in str(node.value.value)[:40]):
                found[name] = yaml.safe_load(node.value.value)
    return found


def broken(node: Any, inside: str = "") -> list[Any]:
    """Return the descriptions that are no text: a colon made a mapping of them."""
    # An option may be called description, too.
    if inside == "description" and not isinstance(node, dict):
        return [item for item in (node if isinstance(node, list) else [node]) if not isinstance(item, str)]
    if isinstance(node, dict):
        return [found for key, value in node.items() for found in broken(value, str(key))]
    return []


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_documentation_is_yaml(path: Path) -> None:
    for name, document in documents(path.read_text()).items():
        assert isinstance(document, dict) or (name == "RETURN" and document is None)
        assert broken(document) == []


def test_plugins_were_found() -> None:
    assert len(PLUGINS) > 25
    assert "DOCUMENTATION" in documents((ROOT / "plugins/inventory/aws_ec2.py").read_text())


def test_a_colon_too_many_is_noticed() -> None:
    with pytest.raises(yaml.YAMLError):
        documents('DOCUMENTATION = r"""\ndescription:\n  - An instance\n    ends the run: it is a mistake.\n"""\n')
    [document] = documents('DOCUMENTATION = r"""\ndescription:\n  - It ends the run: a mistake.\n"""\n').values()
    assert broken(document) == [{"It ends the run": "a mistake."}]
