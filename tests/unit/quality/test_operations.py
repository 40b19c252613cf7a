# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What docs/operations.md quotes is what the code says, and what it tells to type exists."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/operations.md"
CASES = 12
#: Words of a sentence without which its match proves nothing.
CHARACTERS = 20
OPTIONS = {"-i", "-e", "--tags", "--check", "--diff"}
HOST_PATH = re.compile(r"(?<![\w.])/(?:etc|opt|var/lib|run)/fivepointers[\w./-]*")


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## +(.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Every command to type, without comments and with continued lines joined."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [" ".join(shlex.split(line, comments=True)) for line in lines if shlex.split(line, comments=True)]


def playbook_text(path: Path, seen: set[Path] | None = None) -> str:
    """A playbook with all that it imports or includes by path."""
    seen = set() if seen is None else seen
    if path in seen or not path.is_file():
        return ""
    seen.add(path)
    text = path.read_text()
    found = re.findall(r"(?:import_playbook|include_tasks|file): *([\w/]+\.yml)", text)
    return text + "".join(playbook_text(path.parent / name, seen) for name in found)


def variables(path: Path) -> set[str]:
    inventories = "".join(file.read_text() for file in (ROOT / "inventories").glob("*/group_vars/all/*.yml"))
    group = "".join(file.read_text() for file in (ROOT / "playbooks/group_vars").rglob("*.yml"))
    return set(re.findall(r"\b[a-z]\w+\b", playbook_text(path) + inventories + group))


def services() -> list[str]:
    return list(yaml.safe_load((ROOT / "inventories/services.yml").read_text())["services"])


def units() -> set[str]:
    """Every unit that may be named: those of the services, in both slots, and those of Debian that we use."""
    ours = {releases.unit_name(name, slot) for name in services() for slot in (*releases.SLOTS, "*")}
    return ours | {unit.removesuffix(".service") for unit in ours} | {"nginx", "nginx.service", "certbot"}


def problems(command: str) -> Iterator[str]:
    """What is wrong with a command: playbooks, variables, tags, services and units that do not exist."""
    words = shlex.split(command)
    if "ansible-playbook" in words:
        books = [word for word in words if re.fullmatch(r"[\w/]+\.yml", word)]
        if len(books) != 1 or not (ROOT / books[0]).is_file():
            yield f"no such playbook: {books}"
            return
        known = variables(ROOT / books[0])
        for option, value in itertools.pairwise(words):
            name, _, given = value.partition("=")
            if option == "-e" and name not in known:
                yield f"{books[0]} knows no variable {name}"
            if option == "-e" and name in ("service", "release"):
                named = {part.partition(":")[0] for part in given.split(",")}
                yield from (f"no such service: {it}" for it in sorted(named - set(services())))
            if option == "--tags" and not set(value.split(",")) <= {path.name for path in (ROOT / "roles").iterdir()}:
                yield f"no such tags: {value}"
        yield from (f"unexpected option {word}" for word in words if word.startswith("-") and word not in OPTIONS)
    for unit in re.findall(r"(?:journalctl(?: -\S+)* -u|systemctl [a-z-]+) +([\w@*.-]+)", command):
        if unit not in units():
            yield f"no such unit: {unit}"
    for path in HOST_PATH.findall(command):
        roots = (releases.HOME, releases.STATE, releases.SETTINGS, systemd.UNITS, releases.NGINX)
        if not any(path == root or path.startswith(root + "/") for root in roots):
            yield f"no such path on a host: {path}"


class Sentence(NamedTuple):
    """A sentence with gaps."""

    pattern: str
    longest: str

    def stands_in(self, text: str) -> bool:
        # Compiling thousands of patterns takes seconds: only of those that can be found.
        return self.longest in " ".join(text.split()) and re.search(self.pattern, text, re.DOTALL) is not None


def sentences(text: str) -> Iterator[Sentence]:
    """The fixed sentences of a message that is filled in."""
    for part in re.split(r"\n|(?<=[.:;]) +", text):
        literal = re.split(r"%(?:\(\w+\))?[-\d.]*[a-z]|\{\{.*?\}\}|\x00", part)
        if sum(map(len, literal)) >= CHARACTERS and max(map(len, literal)) >= CHARACTERS // 2:
            pattern = ".+?".join(r"\s+".join(map(re.escape, re.split(r"\s+", piece))) for piece in literal)
            yield Sentence(pattern, " ".join(max(literal, key=len).split()))


@pytest.fixture(scope="module")
def spoken() -> list[Sentence]:
    """Every sentence that the collection can say."""
    texts = []
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(it.value) if isinstance(it, ast.Constant) else "\0" for it in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n\n" not in node.value:
                texts.append(node.value)
    for path in (ROOT / "playbooks").rglob("*.yml"):
        texts += re.findall(r"fail_msg: >-\n((?: {8,}.*\n)+)", path.read_text())
    return [sentence for text in texts for sentence in sentences(" ".join(text.split(" ")))]


@pytest.fixture(scope="module")
def document() -> str:
    return DOCUMENT.read_text()


def test_there_are_twelve_cases_and_a_table_of_contents_by_symptom(document: str) -> None:
    found = sections(document)
    contents = re.findall(r"\]\(#([\w-]+)\)", document.partition("\n## ")[0])
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found]
    assert len(found) == CASES
    assert list(dict.fromkeys(contents)) == anchors, "the contents lead to each case, in its order"


def test_each_case_has_a_message_and_a_command(document: str) -> None:
    for title, text in sections(document).items():
        assert blocks(text, "text"), f"{title}: no message"
        assert blocks(text, "sh"), f"{title}: no command"


def test_every_command_names_what_exists(document: str) -> None:
    found = commands(document)
    assert len(found) > CASES
    assert [f"{command}: {problem}" for command in found for problem in problems(command)] == []


@pytest.mark.parametrize(
    "command",
    [
        "ansible-playbook -i $inventory playbooks/redo.yml",
        "ansible-playbook -i $inventory playbooks/rollback.yml -e servic=api",
        "ansible-playbook -i $inventory playbooks/rollback.yml -e service=apis",
        "ansible-playbook -i $inventory playbooks/site.yml --tags nginx_prox",
        "ansible-playbook -i $inventory playbooks/deploy.yml --force",
        "sudo journalctl -u fivepointers-api@red",
        "sudo ls /opt/fivepointers-old",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert list(problems(command))


def test_every_message_is_one_that_the_collection_says(document: str, spoken: list[Sentence]) -> None:
    for title, text in sections(document).items():
        messages = blocks(text, "text")
        assert any(it.stands_in(message) for message in messages for it in spoken), f"{title}: nothing says that"


def test_a_message_that_nothing_says_is_noticed(spoken: list[Sentence]) -> None:
    invented = "api on api-1, step prepare: the release was not to somebody's liking and went away again"
    assert not any(it.stands_in(invented) for it in spoken)
