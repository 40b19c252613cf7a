"""Which names may stand where: what is one of several is named in its own file only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import PROGRAMS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import SERVERS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS

FAMILIES = {
    "kind": ("plugin_utils/catalogue/kinds/", {*KINDS, "nestjs", "nextjs", "static-frontend", "yjs-websocket"}),
    # Those that there are not yet, too: nothing else may know of them when they come.
    "engine": (
        "plugin_utils/catalogue/engines/",
        {*SERVERS, *(engine.title for engine in SERVERS.values()), "mysql", "mariadb", "postgres", "sqlite", "aurora"},
    ),
    "package manager": ("module_utils/build/package_managers/", {*PROGRAMS, "npm", "pnpm", "yarn", "bun", "bunx"}),
}


def named(family: str, place: str, text: str) -> list[str]:
    """Return the members of a family that a file below plugins/ names outside of the family's own folder."""
    home, members = FAMILIES[family]
    if place.startswith(home):
        return []
    if family == "package manager" and place == "modules/build.py":
        # Its documentation says what has to be installed.
        text = re.sub(r'DOCUMENTATION = r"""(.*?)"""', "", text, flags=re.DOTALL)
    # A part of another name counts, in whatever case; bun and yarn are parts of English words.
    words = [rf"\b{word}\b" if word in ("bun", "yarn") else re.escape(word) for word in members]
    return sorted(set(re.findall("|".join(sorted(words, key=len, reverse=True)), text, re.IGNORECASE)))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_its_own_file_names_one(root: Path, family: str) -> None:
    plugins = root / "plugins"
    files = [path for path in sorted(plugins.rglob("*")) if path.suffix in (".py", ".yml", ".j2", ".cjs")]
    found = {
        place: names
        for path in files
        if (names := named(family, place := path.relative_to(plugins).as_posix(), path.read_text()))
    }
    assert len(files) > 100
    assert found == {}


@pytest.mark.parametrize(
    ("family", "place", "text", "names"),
    [
        ("kind", "plugin_utils/plan/plan.py", 'if kind == "nextjs":', ["nextjs"]),
        ("kind", "plugin_utils/catalogue/kinds/nextjs.py", 'name="nextjs"', []),
        ("engine", "modules/rds_parameter_group.py", "family: mysql8.4", ["mysql"]),
        ("engine", "plugin_utils/provision/database.py", "a parameter of MySQL", ["MySQL"]),
        ("kind", "plugin_utils/plan/plan.py", "def is_nextjs(name): ...", ["nextjs"]),
        ("engine", "plugin_utils/plan/plan.py", "import pymysql  # no mariadb", ["mariadb", "mysql"]),
        ("package manager", "module_utils/build/builder.py", 'run(["npm", "ci"])', ["npm"]),
        ("package manager", "module_utils/build/builder.py", "NPM_CONFIG_CACHE, a bundle", ["NPM"]),
        ("package manager", "modules/build.py", 'run(["npm", "ci"])', ["npm"]),
        ("package manager", "module_utils/build/package_managers/npm.py", '"npm"', []),
    ],
)
def test_a_name_in_the_wrong_place_is_noticed(family: str, place: str, text: str, names: list[str]) -> None:
    assert named(family, place, text) == names


def test_every_kind_is_a_tag_of_the_playbooks(root: Path) -> None:
    stated = yaml.safe_load((root / "playbooks" / "vars" / "kinds.yml").read_text())
    assert stated == {"__platform_kinds": list(KINDS)}
    for name in ("build", "parts/configure", "parts/deploy"):
        text = (root / "playbooks" / f"{name}.yml").read_text()
        tags = [line for line in text.splitlines() if "tags: [" in line and "{{ __platform_kinds }}" in line]
        assert tags, f"{name}.yml"
        assert not [kind for kind in KINDS for line in text.splitlines() if "tags: [" in line and kind in line]
