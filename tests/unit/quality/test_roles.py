"""What every role promises: its arguments are its defaults, its README names them, and it reads nobody else's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets import ec2

ROOT = Path(__file__).parents[3]
COLLECTION = "fivepointers.platform."
SERVICE_ROLES = ("nestjs_api", "static_frontend", "nextjs", "yjs_websocket")
MOST_LINES = 25
WORD = re.compile(r"(?<![\w$.])[a-z_][a-z0-9_]*")
# What only a playbook knows: groups, other hosts, and the inventory's own variables.
INVENTORY = re.compile(r"(?<![\w$.'\"-])(?:groups|group_names|hostvars|platform_[a-z]\w*)\b")


def read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


@cache
def entries(role: Path) -> dict[str, dict[str, Any]]:
    """Entry point to its options."""
    specs = read(role / "meta/argument_specs.yml")["argument_specs"]
    return {name: spec.get("options") or {} for name, spec in specs.items()}


@cache
def variables(role: Path) -> set[str]:
    """Every variable that the role declares."""
    names = {name for options in entries(role).values() for name in options}
    for folder in ("defaults", "vars"):
        for path in (role / folder).glob("*.yml"):
            names |= set(read(path))
    return names


def test_there_are_roles(root: Path) -> None:
    """The tests below run once for each role; with none they would say nothing."""
    names = {path.parent.parent.name for path in root.glob("roles/*/meta/argument_specs.yml")}
    folders = {path.name for path in root.glob("roles/*") if any(path.rglob("*.yml"))}
    assert folders == names
    assert {*SERVICE_ROLES, "nginx_proxy", "cloudwatch_agent"} <= names


def inclusions(tasks: Any) -> Iterator[tuple[str, str]]:
    """Role and entry point of each inclusion in a file of tasks or plays."""
    for task in tasks or []:
        for keyword in ("tasks", "block", "rescue", "always"):
            yield from inclusions(task.get(keyword))
        for keyword in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
            if keyword in task:
                yield task[keyword]["name"].removeprefix(COLLECTION), task[keyword].get("tasks_from", "main")


def included(*folders: Path) -> list[tuple[str, str]]:
    variables = {"group_vars", "vars"}
    paths = sorted(path for folder in folders for path in folder.rglob("*.yml") if not variables & set(path.parts))
    return [found for path in paths for found in inclusions(yaml.safe_load(path.read_text()))]


@pytest.mark.parametrize("name", SERVICE_ROLES)
def test_a_service_role_is_a_thin_entry_to_node_service(root: Path, name: str) -> None:
    tasks = root / "roles" / name / "tasks"
    assert sorted(included(tasks)) == [("node_service", "configure"), ("node_service", "main")]
    assert sum(len(path.read_text().splitlines()) for path in tasks.rglob("*")) <= MOST_LINES


def test_inclusions_name_entry_points_whose_arguments_are_validated(root: Path) -> None:
    """Ansible validates nothing for `tasks_from: unit.yml`, nor for a file without argument_specs."""
    found = included(root / "playbooks", *root.glob("roles/*/tasks"))
    assert ("nodejs", "main") in found and ("node_service", "configure") in found
    assert [(role, entry) for role, entry in found if entry not in entries(root / "roles" / role)] == []


def test_an_inclusion_that_is_not_validated_would_be_noticed() -> None:
    task = {"ansible.builtin.include_role": {"name": "fivepointers.platform.node_service", "tasks_from": "main.yml"}}
    assert list(inclusions([{"tasks": [{"block": [task]}]}])) == [("node_service", "main.yml")]
    assert "main.yml" not in entries(ROOT / "roles/node_service")


def test_defaults_are_those_of_the_arguments(role: Path) -> None:
    defaults = read(role / "defaults/main.yml")
    options: dict[str, Any] = {}
    for entry in entries(role).values():
        for name, option in entry.items():
            default = option.get("default")
            assert options.setdefault(name, default) == default, f"{name}: two entry points, two defaults"
    required = {name for entry in entries(role).values() for name, option in entry.items() if option.get("required")}
    stated = {name: value for name, value in defaults.items() if value is not None}
    meant = {name: value for name, value in options.items() if value is not None}
    assert stated == meant
    assert set(defaults) <= set(options), "in defaults and not in argument_specs"
    assert not required & set(defaults), "required, and yet in defaults"


def test_every_option_says_what_it_is_for(role: Path) -> None:
    def walk(options: dict[str, Any], where: str) -> Iterator[str]:
        for name, option in options.items():
            if not option.get("description"):
                yield f"{where}{name}"
            yield from walk(option.get("options") or {}, f"{where}{name}.")

    assert [name for entry in entries(role).values() for name in walk(entry, "")] == []


def test_names_say_whose_they_are(role: Path) -> None:
    public = {name for entry in entries(role).values() for name in entry} | set(read(role / "defaults/main.yml"))
    assert sorted(name for name in public if not name.startswith(f"{role.name}_")) == []
    private = {name for path in (role / "vars").glob("*.yml") for name in read(path)}
    assert sorted(name for name in private if not name.startswith(f"__{role.name}_")) == []


def test_the_readme_has_every_option_as_it_is(role: Path) -> None:
    assert (role / "README.md").exists(), "the role has no README.md"
    command = [sys.executable, str(ROOT / "tools/role_readme.py"), "--check", role.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Keywords whose text is an expression without braces around it.
BARE = {"when", "that", "until", "failed_when", "changed_when", "var"}
JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


def expressions(value: Any, keyword: str = "") -> Iterator[str]:
    """The expressions in a task file. The keys under `vars` name what is passed on, and are not reading."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from expressions(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, keyword)
    elif isinstance(value, str):
        yield from [value] if keyword in BARE else JINJA.findall(value)


def texts(role: Path) -> Iterator[tuple[str, str]]:
    """File name and expression, for everything in a role that reads variables."""
    for path in sorted(role.rglob("*")):
        kind = path.relative_to(role).parts[0]
        found: Iterator[str] = iter(())
        if kind == "templates" and path.is_file():
            found = iter(JINJA.findall(path.read_text()))
        elif kind in ("tasks", "handlers", "vars", "defaults") and path.suffix == ".yml":
            found = expressions(yaml.safe_load(path.read_text()))
        for text in found:
            yield str(path.relative_to(role.parent)), without_literals(text)


def without_literals(text: str) -> str:
    """A text without the strings quoted in it, such as paths and names of groups of users."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)


def foreign_reads(role: Path) -> list[str]:
    foreign = {name for other in role.parent.iterdir() if other != role and other.is_dir() for name in declared(other)}
    foreign -= variables(role)
    return [f"{name}: {word}" for name, text in texts(role) for word in WORD.findall(text) if word in foreign]


def declared(role: Path) -> set[str]:
    return variables(role) if (role / "meta/argument_specs.yml").exists() else set()


def test_no_role_reads_another_roles_variables(role: Path) -> None:
    assert foreign_reads(role) == []


def test_no_role_looks_into_the_inventory(role: Path) -> None:
    found = [f"{name}: {word}" for name, text in texts(role) for word in INVENTORY.findall(text)]
    assert found == []


def test_reading_another_roles_variable_would_be_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        for folder in ("meta", "tasks", "templates"):
            (tmp_path / name / folder).mkdir(parents=True)
        spec = {"argument_specs": {"main": {"options": {f"{name}_port": {"type": "int", "description": "A port."}}}}}
        (tmp_path / name / "meta/argument_specs.yml").write_text(yaml.safe_dump(spec))
    tasks = tmp_path / "one/tasks/main.yml"
    tasks.write_text("- include_role: {name: two}\n  vars: {two_port: '{{ one_port }}'}\n")
    assert foreign_reads(tmp_path / "one") == []
    tasks.write_text("- debug: {msg: '{{ two_port }}'}\n")
    assert foreign_reads(tmp_path / "one") == ["one/tasks/main.yml: two_port"]
    tasks.write_text("- debug: {}\n  when: two_port > 1\n")
    assert foreign_reads(tmp_path / "one") == ["one/tasks/main.yml: two_port"]
    tasks.write_text("[]")
    (tmp_path / "one/templates/x.j2").write_text("$two_port {% if two_port %}two_port{% endif %}")
    assert foreign_reads(tmp_path / "one") == ["one/templates/x.j2: two_port"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ groups.platform }}", True),
        ("hostvars[inventory_hostname]", True),
        ("platform_environment.tls", True),
        ("'groups' in user", False),
        ("$platform_service", False),
        ("ansible_facts.platform_x", False),
    ],
)
def test_looking_into_the_inventory_would_be_noticed(text: str, found: bool) -> None:
    assert bool(INVENTORY.search(without_literals(text))) is found


def test_ports_that_services_cannot_have_are_those_of_the_roles() -> None:
    defaults = yaml.safe_load((ROOT / "roles/nginx/defaults/main.yml").read_text())
    assert {22, defaults["nginx_status_port"]} == set(ec2.OWN_PORTS)
