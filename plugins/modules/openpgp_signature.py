#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Verify that a file was signed by a given OpenPGP key."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: openpgp_signature
short_description: Verify the OpenPGP signature of a file
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Verifies a detached signature with C(gpgv), which every Debian has, and requires the fingerprint of the key.
  - Adds no key to any keyring.
options:
  path:
    description:
      - The signed file.
    type: path
    required: true
  signature:
    description:
      - File with the detached signature.
    type: path
    required: true
  key:
    description:
      - File with the public key, armored or binary.
    type: path
    required: true
  fingerprint:
    description:
      - Fingerprint of the primary key. Spaces and case are ignored.
    type: str
    required: true
extends_documentation_fragment:
  - fivepointers.platform.attributes.reads
"""

EXAMPLES = r"""
- name: Verify that Amazon signed the package
  fivepointers.platform.openpgp_signature:
    path: /var/cache/fivepointers/amazon-cloudwatch-agent.deb
    signature: /var/cache/fivepointers/amazon-cloudwatch-agent.deb.sig
    key: /var/cache/fivepointers/amazon-cloudwatch-agent.key
    fingerprint: 9376 16F3 450B 7D80 6CBD 9725 D581 6730 3B78 9C72
"""

RETURN = r"""
fingerprint:
  description: Fingerprint of the primary key that signed the file.
  returned: success
  type: str
  sample: 937616F3450B7D806CBD9725D58167303B789C72
"""

import base64
import binascii
import os
import re
import tempfile

from ansible.module_utils.basic import AnsibleModule


def dearmor(key: bytes) -> bytes:
    """The binary key that an armored one holds; a binary one as it is. Raises ValueError."""
    if not key.lstrip().startswith(b"-----BEGIN PGP"):
        return key
    match = re.search(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP", key, re.DOTALL)
    if not match:
        raise ValueError("it is not an armored public key")
    # Headers end at an empty line; the line that starts with = is the checksum.
    lines = match[1].replace(b"\r", b"").split(b"\n")
    start = lines.index(b"") if b"" in lines[:-1] else -1
    body = [line for line in lines[start + 1 :] if not line.startswith(b"=")]
    try:
        return base64.b64decode(b"".join(body), validate=True)
    except binascii.Error as error:
        raise ValueError(f"its armor is damaged: {error}") from error


def signer(status: str) -> str:
    """Fingerprint of the primary key from the status lines of gpgv; empty where no signature is valid."""
    match = re.search(r"^\[GNUPG:\] VALIDSIG (\S+)(?: .*)? (\S+)$", status, re.MULTILINE)
    return match[2] if match else ""


def main() -> None:
    """Check the signature, or fail."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "signature": {"type": "path", "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
            "fingerprint": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = module.params["fingerprint"].replace(" ", "").upper()
    gpgv = module.get_bin_path("gpgv")
    if not gpgv:
        module.fail_json(msg="gpgv is not installed, so no signature can be checked. Install the package gpgv.")
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:
        keyring = os.path.join(folder, "key.gpg")
        try:
            with open(module.params["key"], "rb") as source, open(keyring, "wb") as target:
                target.write(dearmor(source.read()))
        except (OSError, ValueError) as error:
            module.fail_json(msg=f"The key {module.params['key']} cannot be used: {error}")
        _rc, out, err = module.run_command(
            [gpgv, "--status-fd", "1", "--keyring", keyring, module.params["signature"], module.params["path"]],
            environ_update={"LC_ALL": "C", "GNUPGHOME": folder},
        )
    found = signer(out)
    if found != wanted:
        came = f"the key {found} signed it" if found else f"gpgv says: {err.strip()}"
        module.fail_json(msg=f"{module.params['path']} is not signed by the key {wanted}: {came}")
    module.exit_json(changed=False, fingerprint=found)


if __name__ == "__main__":
    main()
