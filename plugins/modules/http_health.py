#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Ask a service whether it is healthy, and say what came."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: http_health
short_description: Ask a service whether it is healthy
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Sends one HTTP request, or opens one TCP connection, until the answer is as expected or the retries are used up.
  - Can connect to any address while name, SNI and Host header stay those of the URL, so that a slot, a front or an
    edge is asked as a user would ask it, before DNS points to it.
  - A failure says what was asked, what came, and what usually lies behind it.
  - Never follows redirects. A redirect is an answer like any other.
  - Needs nothing but Python on the host. Changes nothing, and does the same in check mode.
options:
  url:
    description:
      - The http or https URL to ask.
      - Exactly one of O(url) and O(tcp) is needed.
    type: str
  tcp:
    description:
      - C(host:port) that must accept a connection.
    type: str
  connect_to:
    description:
      - Address to connect to instead of the one that the name in O(url) has, C(host) or C(host:port).
    type: str
  ca_file:
    description:
      - PEM file of the certificate authorities to trust. Without it, those that the system trusts.
    type: path
  validate_certs:
    description:
      - Whether the certificate must be valid for the name in O(url).
    type: bool
    default: true
  method:
    description:
      - The request's method.
    type: str
    default: GET
  headers:
    description:
      - Headers to send.
    type: dict
    default: {}
  status:
    description:
      - The statuses that count as healthy.
    type: list
    elements: int
    default: [200]
  contains:
    description:
      - Texts that the body must contain.
    type: list
    elements: str
    default: []
  retries:
    description:
      - How often to ask again when the answer is not as expected.
    type: int
    default: 0
  delay:
    description:
      - Seconds between two attempts.
    type: float
    default: 1
  timeout:
    description:
      - Seconds that one attempt may take, from connecting to the last byte.
    type: float
    default: 5
extends_documentation_fragment:
  - fivepointers.platform.attributes.reads
"""

EXAMPLES = r"""
- name: Ask the API through the edge before DNS points to it
  fivepointers.platform.http_health:
    url: https://api.example.com/api/health
    connect_to: 10.0.1.20
    ca_file: /etc/ssl/certs/ca-certificates.crt

- name: Wait until the candidate answers
  fivepointers.platform.http_health:
    url: http://127.0.0.1:13001/api/health
    status: [200, 204]
    retries: 30
    delay: 1
    timeout: 2

- name: Wait until the relay listens
  fivepointers.platform.http_health:
    tcp: 127.0.0.1:13003
    retries: 30
"""

RETURN = r"""
asked:
  description: What was asked, and where the connection went.
  returned: always
  type: str
  sample: GET https://api.example.com/api/health at 10.0.1.20
came:
  description: What came at the last attempt.
  returned: always
  type: str
  sample: '200 OK: {"status":"ok"}'
status:
  description: The answer's status; none where no answer came or O(tcp) was asked.
  returned: always
  type: int
  sample: 200
attempts:
  description: How many attempts were made.
  returned: always
  type: int
  sample: 1
seconds:
  description: Seconds that the last attempt took.
  returned: always
  type: float
  sample: 0.012
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common.http_client import (
    ProbeError,
    ask,
    complaints,
    likely,
    open_port,
    tls_context,
)


def attempt(params: dict[str, Any]) -> tuple[bool, str, int | None, str]:
    """Ask once. Returns (as expected, what came, status, likely reason)."""
    try:
        if params["tcp"]:
            seconds = open_port(params["tcp"], params["timeout"])
            return True, f"connected in {seconds * 1000:.0f} ms", None, ""
        answer = ask(
            params["url"],
            connect_to=params["connect_to"],
            method=params["method"],
            headers={key: str(value) for key, value in params["headers"].items()},
            timeout=params["timeout"],
            context=tls_context(params["ca_file"], params["validate_certs"]) if params["url"][:5] == "https" else None,
        )
    except ProbeError as error:
        return False, str(error), None, error.likely
    wrong = complaints(answer, params["status"], params["contains"])
    if not wrong:
        return True, answer.describe(), answer.status, ""
    return False, f"{answer.describe()} ({'; '.join(wrong)})", answer.status, likely(answer.status)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str"},
            "tcp": {"type": "str"},
            "connect_to": {"type": "str"},
            "ca_file": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
            "method": {"type": "str", "default": "GET"},
            "headers": {"type": "dict", "default": {}},
            "status": {"type": "list", "elements": "int", "default": [200]},
            "contains": {"type": "list", "elements": "str", "default": []},
            "retries": {"type": "int", "default": 0},
            "delay": {"type": "float", "default": 1},
            "timeout": {"type": "float", "default": 5},
        },
        mutually_exclusive=[("url", "tcp")],
        required_one_of=[("url", "tcp")],
        supports_check_mode=True,
    )
    params = module.params
    asked = f"a connection to {params['tcp']}" if params["tcp"] else f"{params['method']} {params['url']}"
    if params["connect_to"] and params["url"]:
        asked += f" at {params['connect_to']}"
    attempts = 0
    while True:
        attempts += 1
        start = time.monotonic()
        healthy, came, status, reason = attempt(params)
        seconds = round(time.monotonic() - start, 3)
        if healthy or attempts > params["retries"]:
            break
        time.sleep(params["delay"])
    result = {"asked": asked, "came": came, "status": status, "attempts": attempts, "seconds": seconds}
    if healthy:
        module.exit_json(changed=False, **result)
    times = "once" if attempts == 1 else f"{attempts} times"
    reason = reason or "see the log of what was asked"
    module.fail_json(msg=f"Not healthy. Asked {times}: {asked}. Came: {came}. Likely: {reason}.", **result)


if __name__ == "__main__":
    main()
