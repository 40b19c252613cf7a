#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Walk through the front door as a user's browser would, and say whether it is as described."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: verify
short_description: Verify an environment through its front door
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Carries out the C(checks) of the plan (P(fivepointers.platform.plan#filter)), through the address that users reach,
    with the names, TLS and headers that a browser would send.
  - Independent checks run at the same time. The steps of a journey follow each other, and stop at the first failure.
  - Journeys write what a user would write, under names that no other run uses.
  - Passwords, tokens and cookies appear in no result.
  - Runs on the controller, whatever the host of the task is.
requirements:
  - The Python package C(websockets), where a service speaks WebSocket.
  - The Python package C(pycrdt), where a journey edits a Y.js document.
options:
  checks:
    description:
      - The checks, C(checks) of the plan that P(fivepointers.platform.plan#filter) returns.
    type: list
    elements: dict
    required: true
  connect_to:
    description:
      - The front door's address, where the public names do not (yet) point to it. Without it, DNS decides.
    type: str
  ca_file:
    description:
      - PEM file of the certificate authorities to trust. Without it, those that the system trusts.
    type: path
  timeout:
    description:
      - Seconds that one answer may take, and that an edit may take to arrive.
    type: float
    default: 5
  report:
    description:
      - JSON file to write the results to. Its folder is made where it is missing.
    type: path
  fail:
    description:
      - Whether a failed check fails the task. Otherwise look at RV(failures).
    type: bool
    default: true
attributes:
  check_mode:
    description: Asks nothing and writes nothing. All checks come back as skipped.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  action:
    description: All of it happens on the controller, in Ansible's own process.
    support: full
"""

EXAMPLES = r"""
- name: Walk through the front door
  fivepointers.platform.verify:
    checks: "{{ platform.checks }}"
    connect_to: 10.0.0.10
    ca_file: /etc/ssl/private-ca.pem
    report: verification.json
"""

RETURN = r"""
results:
  description: Every check with what was asked, expected and seen.
  returned: always
  type: list
  elements: dict
  contains:
    check: {description: What was checked., type: str}
    service: {description: The service., type: str}
    journey: {description: The journey that the step belongs to., type: str, returned: for steps}
    asked: {description: The question., type: str}
    expected: {description: What should have come., type: str}
    came: {description: What came., type: str}
    ok: {description: Whether it was as expected., type: bool}
    level: {description: ok; warning; failed; skipped., type: str}
    seconds: {description: How long it took., type: float}
    likely: {description: What usually lies behind such a failure., type: str}
    look: {description: Where to look, type: str}
table:
  description: The results as aligned text.
  returned: always
  type: str
failures:
  description: For each failure a text with what was asked, expected and seen, and where to look.
  returned: always
  type: list
  elements: str
summary:
  description: One line with the counts.
  returned: always
  type: str
  sample: '38 checks: 38 ok, in 1.9 s'
seconds:
  description: How long the whole verification took.
  returned: always
  type: float
"""

# The action plugin of the same name does it, on the controller.
