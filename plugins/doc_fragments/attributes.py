# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the documentation of several modules says alike."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of modules. amazon.aws has the fragments for credentials and regions."""

    # Modules that create, update or delete one kind of AWS resource.
    RESOURCE = r"""
attributes:
  check_mode:
    description: Reports what would change.
    support: full
  diff_mode:
    description: Shows the resource before and after.
    support: full
"""

    # Modules that only read.
    READS = r"""
attributes:
  check_mode:
    description: Changes nothing, and runs in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""
