#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Check the health of a service, and report what it answered."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: http_health
short_description: Check the health of a service
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Sends an HTTP request, or opens a TCP connection, until the response is as expected or the retries are used up.
  - Can connect to any address while name, SNI and Host header stay those of the URL, so that a slot, a front or an
    edge can be checked as a user would reach it, before DNS points to it.
  - A failure reports the request, the response, and the likely cause.
  - Never follows redirects. A redirect is a response like any other.
  - Needs only Python on the host. Changes nothing, and does the same in check mode.
options:
  url:
    description:
      - The http or https URL to request.
      - Exactly one of O(url) and O(tcp) is required.
    type: str
  tcp:
    description:
      - C(host:port) that must accept a connection.
    type: str
  connect_to:
    description:
      - Address to connect to instead of what the name in O(url) resolves to, as C(host) or C(host:port).
    type: str
  ca_file:
    description:
      - PEM file with the certificate authorities to trust. Defaults to those of the system.
    type: path
  validate_certs:
    description:
      - Whether the certificate must be valid for the name in O(url).
    type: bool
    default: true
  method:
    description:
      - Method of the request.
    type: str
    default: GET
  headers:
    description:
      - Headers to send.
    type: dict
    default: {}
  status:
    description:
      - Status codes that count as healthy.
    type: list
    elements: int
    default: [200]
  contains:
    description:
      - Strings that the body must contain.
    type: list
    elements: str
    default: []
  retries:
    description:
      - How often to retry if the response is not as expected.
    type: int
    default: 0
  delay:
    description:
      - Seconds between attempts.
    type: float
    default: 1
  timeout:
    description:
      - How many seconds an attempt may take, from connecting to the last byte.
    type: float
    default: 5
extends_documentation_fragment:
  - fivepointers.platform.attributes.reads
"""

EXAMPLES = r"""
- name: Check the API through the edge before DNS points to it
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
  description: The request, and the address of the connection.
  returned: always
  type: str
  sample: GET https://api.example.com/api/health at 10.0.1.20
came:
  description: Response to the last attempt.
  returned: always
  type: str
  sample: '200 OK: {"status":"ok"}'
status:
  description: Status code; none if there was no response, or with O(tcp).
  returned: always
  type: int
  sample: 200
attempts:
  description: Number of attempts.
  returned: always
  type: int
  sample: 1
seconds:
  description: Duration of the last attempt in seconds.
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
    """Try once. Returns (as expected, what came, status, likely cause)."""
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
