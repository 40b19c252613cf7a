# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the tests of nginx already have."""

from tests.unit.nginx.conftest import certificate, nginx

__all__ = ["certificate", "nginx"]
