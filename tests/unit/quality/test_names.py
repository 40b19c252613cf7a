"""Which names may stand where: what is one of several is named in its own file only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS

PACKAGE_MANAGER = re.compile(r"\b(?:npm|npx|yarn|pnpm|bun)\b", re.IGNORECASE)
#: Files that still name one. Empty this; add nothing.
EXCEPTIONS = {"plugin_utils/catalogue/kinds.py", "plugin_utils/catalogue/values.py"}


def named(place: str, text: str) -> list[str]:
    """Return the package managers that a file names against the rule."""
    if place.startswith("module_utils/build/package_managers/"):
        return []
    if place == "modules/build.py":
        # Its documentation says what has to be installed.
        text = re.sub(r'DOCUMENTATION = r"""(.*?)"""', "", text, flags=re.DOTALL)
    return sorted(set(PACKAGE_MANAGER.findall(text)))


def test_only_package_managers_name_one(root: Path) -> None:
    plugins = root / "plugins"
    found = {
        path.relative_to(plugins).as_posix(): names
        for path in sorted(plugins.rglob("*.py"))
        if (names := named(path.relative_to(plugins).as_posix(), path.read_text()))
    }
    assert set(found) == EXCEPTIONS, found


def test_hosts_know_no_kind_of_service(root: Path) -> None:
    kinds = re.compile("|".join(KINDS))
    found = {
        f"{path.relative_to(root)}: {match[0]}"
        for folder in ("module_utils", "modules")
        for path in (root / "plugins" / folder).rglob("*.py")
        for match in kinds.finditer(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize("place", ["module_utils/build/builder.py", "modules/build.py"])
def test_a_package_manager_in_the_wrong_place_is_noticed(place: str) -> None:
    assert named(place, 'run(["npm", "ci"])') == ["npm"]
