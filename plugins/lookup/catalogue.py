# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
name: catalogue
author:
  - Five Pointers (@fivepointers)
version_added: '0.1.0'
short_description: Read the service catalogue
description:
  - Reads the catalogue of services from a YAML file on the controller.
  - Refuses syntax errors, and keys that stand twice in one mapping, with the line.
options:
  _terms:
    description: Path of the catalogue. A relative one is looked for like any other file, and then from the working directory.
    type: list
    elements: str
    required: true
notes:
  - What stands in the file is data. Nothing in it is templated by Ansible.
"""

EXAMPLES = r"""
- name: Show the names of the services
  ansible.builtin.debug:
    msg: "{{ lookup('fivepointers.platform.catalogue', 'inventories/services.yml').services | list }}"
"""

RETURN = r"""
_raw:
  description: The catalogue of each file.
  type: list
  elements: dict
"""

import os
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, or raise for a key that was there before."""
        lines: dict[Any, int] = {}
        for key_node, _value in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in lines:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    "the key '%s' stands there already, in line %d; remove or rename one"
                    % (key_node.value, lines[key_node.value]),
                    key_node.start_mark,
                )
            lines[key_node.value] = line
        return super().construct_mapping(node, deep=deep)


def read_catalogue(path: str) -> Any:
    """Return the data of a catalogue; raise AnsibleLookupError with file and line."""
    try:
        with open(path, "rb") as file:
            return yaml.load(file.read(), Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except OSError as error:
        raise AnsibleLookupError(
            "The catalogue '%s' cannot be read: %s. Set platform_catalogue_file to its path." % (path, error.strerror)
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "%s, line %d, column %d" % (path, mark.line + 1, mark.column + 1) if mark else path
        what = getattr(error, "problem", None) or str(error)
        context = getattr(error, "context", None)
        raise AnsibleLookupError(
            "The catalogue is not valid YAML: %s: %s%s." % (where, what, " (%s)" % context if context else "")
        ) from None


class LookupModule(LookupBase):
    """lookup('fivepointers.platform.catalogue', path)."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the catalogue of each path."""
        self.set_options(var_options=variables, direct=kwargs)
        return [read_catalogue(self._find(str(term), variables)) for term in terms]

    def _find(self, term: str, variables: dict[str, Any] | None) -> str:
        path = os.path.expanduser(term)
        if os.path.isabs(path):
            return path
        found = self.find_file_in_search_path(variables or {}, "files", path, ignore_missing=True)
        return found or os.path.abspath(path)
