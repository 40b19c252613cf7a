#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Check an environment through its front door, as a user's browser would."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: verify
short_description: Verify an environment through its front door
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Runs the C(checks) of the plan (P(fivepointers.platform.plan#filter)), through the public address, with the names,
    TLS and headers that a browser would send.
  - Independent checks run in parallel. The steps of a journey run in order, and stop at the first failure.
  - Journeys write what a user would write, under names that no other run uses.
  - Passwords, tokens and cookies never appear in results.
  - Runs on the controller, whatever host the task has.
requirements:
  - The Python package C(websockets), if a service uses WebSocket.
  - The Python package C(pycrdt), if a journey edits a Y.js document.
options:
  checks:
    description:
      - The checks, C(checks) of the plan that P(fivepointers.platform.plan#filter) returns.
    type: list
    elements: dict
    required: true
  connect_to:
    description:
      - Address of the front door, if the public names do not (yet) resolve to it.
    type: str
  ca_file:
    description:
      - PEM file with the certificate authorities to trust. Defaults to those of the system.
    type: path
  timeout:
    description:
      - How many seconds a response may take, and an edit may take to arrive.
    type: float
    default: 5
  report:
    description:
      - JSON file to write the results to. Its directory is created if it is missing.
    type: path
  strict:
    description:
      - Whether it is a failure, and not a warning, if a page has something that its content security policy blocks.
    type: bool
    default: false
  fail:
    description:
      - Whether a failed check fails the task. If not, see RV(failures).
    type: bool
    default: true
attributes:
  check_mode:
    description: Sends no request and writes nothing. All checks are reported as skipped.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  action:
    description: Runs entirely on the controller, in Ansible's own process.
    support: full
"""

EXAMPLES = r"""
- name: Verify the environment through its front door
  fivepointers.platform.verify:
    checks: "{{ platform.checks }}"
    connect_to: 10.0.0.10
    ca_file: /etc/ssl/private-ca.pem
    report: verification.json
"""

RETURN = r"""
results:
  description: Every check with its request, what was expected, and what came.
  returned: always
  type: list
  elements: dict
  contains:
    check: {description: What was checked., type: str}
    service: {description: The service., type: str}
    journey: {description: The journey that the step belongs to., type: str, returned: for steps}
    asked: {description: The request., type: str}
    expected: {description: What was expected., type: str}
    came: {description: What came., type: str}
    ok: {description: Whether it was as expected., type: bool}
    level: {description: ok; warning; failed; skipped., type: str}
    seconds: {description: How long it took., type: float}
    likely: {description: Likely cause of the failure., type: str}
    look: {description: Where to look., type: str}
table:
  description: The results as aligned text.
  returned: always
  type: str
failures:
  description: For each failure the request, what was expected, what came, and where to look.
  returned: always
  type: list
  elements: str
summary:
  description: One line with the counts.
  returned: always
  type: str
  sample: '38 checks: 38 ok, in 1.9 s'
seconds:
  description: Duration of the verification in seconds.
  returned: always
  type: float
"""

# The action plugin of the same name does it, on the controller.
