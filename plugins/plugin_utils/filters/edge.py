# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of the roles nginx and nginx_proxy. Each is documented in the file of its name in plugins/filter."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError


def edge_configuration(edge: Any, tls: Any, csp: Any = None, nginx: str = "") -> dict[str, Any]:
    """Return the variables of the edge's templates."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge import configuration

    try:
        return configuration.edge_configuration(edge, tls, csp, nginx)
    except configuration.EdgeError as error:
        raise AnsibleFilterError(str(error)) from None
    except KeyError as error:
        raise AnsibleFilterError(
            f"nginx_proxy_edge has no key {error}; pass `edge` from the result of the filter plan"
        ) from None


def error_page(page: str, brand: str = "") -> dict[str, Any]:
    """Return the page for errors and maintenance in nginx's syntax."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge import error_page as pages

    try:
        return pages.error_page(page, brand)
    except pages.ErrorPageError as error:
        raise AnsibleFilterError(str(error)) from None


def csp_reports(lines: list[str]) -> list[str]:
    """Return what browsers reported that policies would block, as sentences."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import reports

    return reports.summary(lines)
