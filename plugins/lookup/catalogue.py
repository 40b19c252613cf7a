# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The lookup that reads the service catalogue."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: catalogue
author:
  - Five Pointers (@fivepointers)
version_added: '0.2.0'
short_description: Read the service catalogue
description:
  - Reads the service catalogue from a YAML file on the controller.
  - Rejects syntax errors and duplicate keys, and names the line.
  - The file is data. Ansible does not template anything in it.
options:
  _terms:
    description:
      - Path of the catalogue.
      - A relative path is searched in C(files) and next to the playbook, then in the working directory.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the names of the services
  ansible.builtin.debug:
    msg: "{{ lookup('fivepointers.platform.catalogue', 'inventories/services.yml').services | list }}"
"""

RETURN = r"""
_raw:
  description: The catalogue of each path.
  type: list
  elements: dict
"""

import os
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

# The parser in C is about eight times as fast, if PyYAML was built with it.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def refuse_duplicates(root: Any) -> None:
    """Raise for a key that occurs twice in one mapping of a YAML document."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            nodes.append(value)
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a single value", problem_mark=key.start_mark)
            if key.value in lines:
                problem = f"the key '{key.value}' is in line {lines[key.value]} already; remove or rename one of them"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            lines[key.value] = key.start_mark.line + 1


def parse_catalogue(text: str) -> Any:
    """Return the data of a YAML document."""
    loader = Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        refuse_duplicates(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def read_catalogue(path: str) -> Any:
    """Return the data of a catalogue; raise AnsibleLookupError with file and line."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_catalogue(file.read())
    except OSError as error:
        raise AnsibleLookupError(
            f"The catalogue '{path}' cannot be read: {error.strerror}. Set platform_catalogue_file to its path."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path
        context = f" ({error.context})" if error.context else ""
        raise AnsibleLookupError(f"The catalogue is not valid YAML: {where}: {error.problem}{context}.") from None
    except (yaml.YAMLError, ValueError) as error:  # an impossible date or number, or bytes that are not text
        raise AnsibleLookupError(f"The catalogue is not valid YAML: {path}: {error}.") from None


class LookupModule(LookupBase):
    """Read catalogues."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the catalogue of each path."""
        self.set_options(var_options=variables, direct=kwargs)
        return [read_catalogue(self._find(str(term), variables or {})) for term in terms]

    def _find(self, term: str, variables: dict[str, Any]) -> str:
        path = os.path.expanduser(term)
        if os.path.isabs(path):
            return path
        found = self.find_file_in_search_path(variables, "files", path, ignore_missing=True)
        return str(found or os.path.abspath(path))
