"""What readers rely on: the index is complete, the glossary stays short, and named paths exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

GLOSSARY_LINES = 20
TOP = 25
BASES = (
    ".",
    "plugins/plugin_utils",
    "plugins/plugin_utils/catalogue",
    "plugins/plugin_utils/deploy",
    "plugins/plugin_utils/plan",
    "plugins/module_utils",
)
# A path has a folder in it and ends in a folder's slash or a file's suffix; placeholders and patterns are no paths.
NAMED = re.compile(r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|yml|j2|md|cjs|json))?)`")


def named_paths(text: str) -> Iterator[str]:
    yield from sorted(set(NAMED.findall(text)))


def missing(root: Path, text: str) -> list[str]:
    """Paths that are there neither from the root nor from where the document says that they begin."""
    return [path for path in named_paths(text) if not any((root / base / path).exists() for base in BASES)]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_the_paths_that_a_document_names_exist(root: Path, document: str) -> None:
    text = (root / document).read_text()
    assert list(named_paths(text)), "no path was found"
    assert missing(root, text) == []


def test_a_path_that_does_not_exist_is_noticed(root: Path) -> None:
    text = "`plugins/module_utils/nowhere.py`, `plan/nowhere.py` and `docs/nowhere/`; `docs/architecture.md`"
    assert missing(root, text) == ["docs/nowhere/", "plan/nowhere.py", "plugins/module_utils/nowhere.py"]


def unknown_tests(root: Path, text: str) -> list[str]:
    """Return the tests that a document names and that do not exist, given as file::test below tests/."""
    found = []
    for file, name in sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", text))):
        path = root / "tests" / file
        if not path.exists() or not re.search(rf"^(?:async )?def {name}\b", path.read_text(), re.MULTILINE):
            found.append(f"{file}::{name}")
    return found


def test_the_tests_that_documents_name_exist(root: Path) -> None:
    documents = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    assert [name for path in documents for name in unknown_tests(root, path.read_text())] == []
    assert unknown_tests(root, "`unit/quality/test_documents.py::test_nothing` and `nowhere.py::test_it`") == [
        "nowhere.py::test_it",
        "unit/quality/test_documents.py::test_nothing",
    ]


def test_the_index_has_every_page(root: Path) -> None:
    index = (root / "docs/README.md").read_text()
    pages = {path.relative_to(root / "docs") for path in (root / "docs").rglob("*.md")}
    pages = {str(page) for page in pages if page.parts[0] != "decisions"} - {"README.md"}
    linked = set(re.findall(r"\]\(([\w/.-]+\.md)", index))
    assert pages - linked == set()


def test_the_readme_leads_to_the_index_and_the_architecture_near_its_top(root: Path) -> None:
    top = "\n".join((root / "README.md").read_text().splitlines()[:TOP])
    assert "(docs/README.md)" in top
    assert "(docs/architecture.md)" in top


@pytest.mark.parametrize(
    "question",
    [
        "Where does a port become a security group rule?",
        "What happens at the switch?",
        "What do I edit for a new header?",
    ],
)
def test_the_architecture_answers_with_a_path(root: Path, question: str) -> None:
    [row] = [line for line in (root / "docs/architecture.md").read_text().splitlines() if question in line]
    assert list(named_paths(row.split("|")[2]))


def test_the_glossary_is_short(root: Path) -> None:
    assert len((root / "docs/glossary.md").read_text().splitlines()) < GLOSSARY_LINES


def test_the_changelog_has_the_collection_s_version(root: Path) -> None:
    version = re.search(r"^version: (\S+)", (root / "galaxy.yml").read_text(), re.MULTILINE)[1]
    assert f"v{version}" in (root / "CHANGELOG.rst").read_text()
