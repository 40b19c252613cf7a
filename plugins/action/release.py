# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The controller's half of a release: artifacts, files and identifiers; and the archives that a host lacks."""

from __future__ import annotations

import os
import time
import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import PlaceholderError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.runtime_table import choose
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import compose
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.manifests import (
    archive_path,
    check_runtime,
    read_manifest,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.steps import record_step
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.anywhere import anywhere

TABLE = "platform_environment.nodejs"
NOTHING: dict[str, t.Any] = {"changed": False, "services": {}, "differing": []}
ARGUMENTS = {
    "services", "artifacts", "artifact_ids", "targets", "secrets", "nodejs_archives", "phase", "deployment",
    "allow_contract_migrations", "allow_older", "adopt", "lacking", "environment_digests", "artifact_keys",
    "target_secrets", "described", "catalogue", "compared",
}  # fmt: skip


class ActionModule(ActionBase):
    """The controller's half of release."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Compose, ask the host once, and send what it lacks."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        args = plain(self._task.args)
        for key in args:
            if key not in ARGUMENTS:
                raise AnsibleActionFail(
                    "release: unknown argument '%s'; known are %s" % (key, ", ".join(sorted(ARGUMENTS)))
                )
        specs = args.get("services") or []
        if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs):
            raise AnsibleActionFail("release: services is %r; give a list of services of the plan" % (specs,))
        host = str(self._task.delegate_to or variables.get("inventory_hostname", "this host"))
        started = time.time()
        try:
            result = self._release(args, specs, host, variables)
        except Exception as error:
            record_step(args, host, specs, started, {"failed": True, "msg": str(error)})
            raise
        record_step(args, host, specs, started, result)
        return result

    def _release(
        self, args: dict[str, t.Any], specs: list[dict[str, t.Any]], host: str, variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        phase = args.get("phase", "all")
        call = {
            "services": [],
            "phase": phase,
            "host": host,
            "deployment": args.get("deployment") or {},
            "allow_contract_migrations": args.get("allow_contract_migrations", False),
            "allow_older": args.get("allow_older") or [],
            "adopt": args.get("adopt", False),
            "described": args.get("described"),
            "catalogue": args.get("catalogue") or [],
            # While they are asked, some hosts have answered, and others have not.
            "anywhere": anywhere(args.get("compared") or []) if phase != "plan" else {},
            "here": [
                spec["name"] for spec in specs if spec.get("schedule") and host == next(iter(spec["hosts"]), host)
            ],
        }
        if phase in ("look", "give_back", "retire", "purge"):
            return self._call({**call, "requests": [{"name": spec["name"]} for spec in specs]}, variables)
        if args.get("targets") is not None:
            # In the order of the services, which is that of the deployment.
            targets = {spec["name"]: args["targets"][spec["name"]] for spec in specs if spec["name"] in args["targets"]}
            named = args.get("target_secrets") or {}
            recalled = {name: named[name] for name in targets if name in named}
            users = [{"name": name, "secrets": names} for name, names in recalled.items()]
            secrets = self._secrets(args.get("secrets") or {}, users)
            call.update(targets=targets, target_secrets=recalled, secrets=secrets)
            return self._call(call, variables) if targets else dict(NOTHING)
        if not specs and not (phase == "plan" and call["described"] is not None):
            return dict(NOTHING)
        if not args.get("artifacts"):
            raise AnsibleActionFail("release: artifacts is not given; name the controller's directory of artifacts")
        args["artifacts"] = os.path.expanduser(str(args["artifacts"]))
        secrets = self._secrets(args.get("secrets") or {}, specs)
        manifests, requests = self._compose(args, specs, secrets, host)
        if phase == "migrate" and not any(request["migrate"] for request in requests):
            return dict(NOTHING)
        call.update(requests=requests, secrets=secrets)
        lacking = [name for name in args.get("lacking") or [] if name in manifests]
        result = {"needs": lacking} if lacking else self._call(call, variables)
        if result.get("needs"):
            sent = self._send(args["artifacts"], manifests, result["needs"])
            try:
                result = self._call({**call, "sent": sent}, variables)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        return {
            **result,
            "artifacts": {name: manifest["id"] for name, manifest in manifests.items()},
            "environment_digests": {request["name"]: request["parts"]["environment"] for request in requests},
        }

    def _secrets(self, secrets: dict[str, t.Any], specs: list[dict[str, t.Any]]) -> dict[str, str]:
        """Return the secrets that these services use, and no others."""
        needed = {name for spec in specs for name in spec.get("secrets", [])}
        for name in sorted(needed):
            if not isinstance(secrets.get(name), str) or not secrets[name]:
                users = ", ".join(spec["name"] for spec in specs if name in spec.get("secrets", []))
                raise AnsibleActionFail(
                    "release: the secret '%s', which %s uses, was not handed over (or is empty). Pass the result of "
                    "lookup('fivepointers.platform.secrets', …) as secrets." % (name, users)
                )
        return {name: secrets[name] for name in sorted(needed)}

    def _compose(
        self, args: dict[str, t.Any], specs: list[dict[str, t.Any]], secrets: dict[str, str], host: str
    ) -> tuple[dict[str, dict[str, t.Any]], list[dict[str, t.Any]]]:
        """Return the manifests by service, and what the module gets. All problems are reported at once."""
        manifests, requests, problems = {}, [], []
        for spec in specs:
            name = spec["name"]
            try:
                artifact = (args.get("artifact_ids") or {}).get(name)
                manifest = read_manifest(args["artifacts"], name, artifact, args.get("artifact_keys") or [])
                node = ""
                if spec["slots"]:
                    node = choose(args.get("nodejs_archives") or {}, spec["node"], TABLE)["version"]
                    check_runtime(spec, manifest, node)
                known = (args.get("environment_digests") or {}).get(name, "") if spec["slots"] else ""
                requests.append(compose(spec, manifest, node, secrets, host, known))
                manifests[name] = manifest
            except (ArchiveError, PlaceholderError) as error:
                text = str(error)
                problems.append(text if text.startswith(name + ":") else "%s: %s" % (name, text))
            except KeyError as error:
                problems.append("%s: its description lacks %s; pass services of the plan, unchanged" % (name, error))
        if problems:
            raise AnsibleActionFail("\n".join(problems))
        return manifests, requests

    def _call(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        # Ansible unpacks a module before it runs: where a full disk does not stop it.
        self._task.environment = [*(self._task.environment or []), {"TMPDIR": "/run"}]
        result: dict[str, t.Any] = self._execute_module(
            module_name="fivepointers.platform.release", module_args=arguments, task_vars=variables
        )
        # The arguments are long, and nothing that helps an operator.
        result.pop("invocation", None)
        return result

    def _send(self, artifacts: str, manifests: Mapping[str, Mapping[str, t.Any]], needed: list[str]) -> dict[str, str]:
        """Send archives to the host's temporary directory; return their paths there."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        sent = {}
        for name in needed:
            target = self._connection._shell.join_path(
                self._connection._shell.tmpdir, manifests[name]["id"] + ".tar.gz"
            )
            self._transfer_file(archive_path(artifacts, name, manifests[name]), target)
            sent[name] = target
        return sent
