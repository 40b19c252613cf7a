# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of the role nginx_proxy. What they do stands in files of their names beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge import configuration as edge


def edge_configuration(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what the edge's templates write down."""
    try:
        return edge.edge_configuration(*args, **kwargs)
    except edge.EdgeError as error:
        raise AnsibleFilterError(str(error)) from None
    except KeyError as error:
        raise AnsibleFilterError(
            f"nginx_proxy_edge lacks the key {error}; give the plan's `edge` as the filter plan returns it"
        ) from None


class FilterModule:
    """Ansible finds the filters here."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"edge_configuration": edge_configuration, "certificate_names": edge.certificate_names}
