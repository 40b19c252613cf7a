# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The checked model of a catalogue, for the filters that read one."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.loading import CatalogueError, load


def load_model(catalogue: Any, environment: Any, hosts: Any = None) -> Model:
    """Return the checked model; fail with all mistakes."""
    try:
        return load(catalogue, environment, hosts)
    except CatalogueError as error:
        raise AnsibleFilterError(f"\n{error}") from None
