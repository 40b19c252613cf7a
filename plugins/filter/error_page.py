# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filter of the role nginx. What it does stands in error_page.yml beside this file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge import error_page as pages


def error_page(page: str, brand: str = "") -> dict[str, Any]:
    """Return the page of errors and maintenance in words of nginx."""
    try:
        return pages.error_page(page, brand)
    except pages.ErrorPageError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible finds the filter here."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"error_page": error_page}
