#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Releases of all services of a host, in one call for a phase."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Release services on a host through two slots and a flag file
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Brings the newest artifact of each service into its idle slot, waits until it is healthy there, and lets the host's
    nginx send new requests to it by creating or removing one file. The release before goes on serving until then, and
    finishes what it has afterwards.
  - A release is code, environment, unit, front configuration and Node.js version under one identifier, which is
    derived from their contents. Where the identifier is what serves, nothing happens, at the price of one call.
  - The archive is sent only where the host lacks it, and a checksum is verified there before it is unpacked.
  - A candidate that does not become healthy is stopped, and never gets a request.
attributes:
  check_mode:
    description: Names all that would be done, also on a host on which nothing is installed.
    support: full
  diff_mode:
    description: Shows unit and front configuration, and of environment variables the names only.
    support: full
  action:
    description: Artifacts are read, and all files are rendered, on the controller.
    support: full
options:
  services:
    description:
      - Services of this host, as the plan describes them.
    type: list
    elements: dict
    required: true
  artifacts:
    description:
      - Directory on the controller with the artifacts, one directory for each service.
    type: path
  artifact_ids:
    description:
      - Artifacts to release instead of the newest, by service.
    type: dict
    default: {}
  secrets:
    description:
      - Values of the secrets that the services' environment refers to, by name.
    type: dict
    default: {}
  nodejs_archives:
    description:
      - Table of Node.js versions, as the role nodejs has it. It says which exact version V(24) is.
    type: dict
    default: {}
  targets:
    description:
      - Releases that are kept on the host, by service, to go back to. Instead of artifacts; each is brought back as it
        was, with its code, environment, unit, front and runtime.
    type: dict
    default: {}
  lacking:
    description:
      - Services whose archive is sent at once instead of when the host asks for it, which spares a call.
      - RV(lacking) of V(plan).
    type: list
    elements: str
    default: []
  phase:
    description:
      - V(plan) only says what differs.
      - V(prepare) brings each release that differs into its idle slot and waits for its health.
      - V(migrate) runs the migrations of prepared releases, on the first of a service's hosts only.
      - V(switch) lets prepared releases serve. What served before goes on running.
      - V(commit) stops what served before, at once after its drain or when its hold time is over, and prunes.
      - V(take_back) undoes switches that are not committed, and stops candidates.
      - V(all) is prepare, migrate, switch and commit.
      - V(give_back) takes the fronts away, stops the slots, and starts again what O(adopt) had stopped. It needs no
        artifacts, and does nothing where nothing was adopted.
      - V(look) returns what is live and what is kept, and needs no artifacts.
    type: str
    choices: [plan, prepare, migrate, switch, commit, take_back, give_back, all, look]
    default: all
  deployment:
    description:
      - What M(fivepointers.platform.deployment) returned. A host refuses a deployment that another one has followed.
      - Also the file on the controller to which the action adds what each phase did and how long it took.
    type: dict
    default: {}
  allow_contract_migrations:
    description:
      - Whether migrations may remove or narrow what the release that serves still uses.
    type: bool
    default: false
  adopt:
    description:
      - Whether a port on which a front is to listen is taken over from another process, such as the same application
        run by pm2 or nohup. That is stopped in the instant in which the front takes its place, and noted before, so
        that it can be given back.
      - Where it is false, such a port is a reason to refuse.
    type: bool
    default: false
  requests:
    description:
      - What the action made of O(services). Not for playbooks.
    type: list
    elements: dict
    default: []
  sent:
    description:
      - Archives that the action has sent, by service. Not for playbooks.
    type: dict
    default: {}
  host:
    description:
      - Name of the host in messages. Set by the action.
    type: str
    default: this host
notes:
  - Needs root on the host, systemd, and nginx as the role nginx sets it up.
  - The secrets are written to files that only root may read. They appear in no message, diff or identifier.
"""

EXAMPLES = r"""
- name: Release the services of this host
  fivepointers.platform.release:
    services: "{{ services_of_this_host }}"
    artifacts: "{{ platform_artifacts }}"
    secrets: "{{ service_secrets }}"
    nodejs_archives: "{{ platform_environment.nodejs }}"

- name: Say what a release would do
  fivepointers.platform.release:
    services: "{{ services_of_this_host }}"
    artifacts: "{{ platform_artifacts }}"
    secrets: "{{ service_secrets }}"
    nodejs_archives: "{{ platform_environment.nodejs }}"
    phase: plan
"""

RETURN = r"""
services:
  description: For each service what it has and what is, was or would be done.
  returned: always
  type: dict
  contains:
    release:
      description: Identifier of the wanted release.
      type: str
    serving:
      description: Identifier of the release that served before. Empty if none did.
      type: str
    live:
      description: Slot that served before.
      type: str
    slot:
      description: Slot in which the wanted release is.
      type: str
    changed:
      description: Whether the host differed from what is wanted.
      type: bool
    ready:
      description: Whether the wanted release is prepared and waits for the switch.
      type: bool
    reasons:
      description: What differed.
      type: list
      elements: str
    steps:
      description: What had to be done.
      type: list
      elements: str
  sample:
    api: {release: 3f2a9c01b7de, serving: 91c04d55e2aa, live: blue, slot: green, changed: true, ready: false,
          reasons: ['its code differs (5f0c, was 8b1e)'],
          steps: ['switch api from slot blue (release 91c04d55e2aa) to slot green (release 3f2a9c01b7de)']}
differing:
  description: Names of the services that are not as wanted, or were not before.
  returned: always
  type: list
  elements: str
artifacts:
  description: Identifiers of the artifacts that are meant, by service; for O(artifact_ids) of the phases that follow.
  returned: where artifacts are released
  type: dict
lacking:
  description: With O(phase=plan) the services whose archive is not on the host, if there is room for it.
  returned: always
  type: list
  elements: str
adopted:
  description: Ports that were taken over or given back, by service.
  returned: always
  type: dict
  contains:
    was:
      description: Who held the port before.
      type: str
    outage_ms:
      description: Milliseconds from the last moment at which one held the port to the first answer of the other.
      type: float
    given_back:
      description: Whether it was given back.
      type: bool
  sample:
    api: {was: "pm2's process api (0) of user ubuntu", outage_ms: 41.5, given_back: false}
needs:
  description: Services whose archive the host lacks. The action then sends them.
  returned: when an archive is missing
  type: list
  elements: str
"""

import json
import os
import time
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import listed, read_record
from ansible_collections.fivepointers.platform.plugins.module_utils.release import adoption, leases, phases, releases
from ansible_collections.fivepointers.platform.plugins.module_utils.release import files as release_files


def read(path: str) -> str:
    """Return a file's text, or nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except OSError:
        return ""


def environment_names(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names of environment variables, and which of them differ."""
    lines = []
    for name in sorted(set(before) | set(after)):
        state = "new" if name not in before else "removed" if name not in after else ""
        if not state and before[name] != after[name]:
            state = "differs"
        lines.append(name + (" (%s)" % state if state else ""))
    return lines


def difference(
    wanted: releases.Wanted, todo: releases.Plan, secrets: dict[str, str], done: bool
) -> list[dict[str, str]]:
    """Return one service's part of the diff: the steps, then unit, front and names of variables."""
    title = "%s: release %s" % (wanted.name, wanted.release)
    steps = "".join("%s %s\n" % ("+" if done else "+ would", step) for step in todo.steps)
    why = "".join("  because %s\n" % reason for reason in todo.reasons)
    shown = [{"prepared": "%s\n%s%s" % (title, why, steps)}]
    if not todo.candidate:
        return shown
    old = releases.release_path(wanted.name, todo.serving) if todo.serving else ""
    pairs = [("front", read(os.path.join(old, "front.conf")) if old else "", wanted.front)]
    if wanted.process:
        # The release's own name in it is no difference.
        unit = read(os.path.join(old, "unit")).replace(todo.serving, wanted.release) if old else ""
        pairs.append(("unit", unit, wanted.unit))
        before = json.loads(read(os.path.join(old, "environment")) or "{}") if old else {}
        after = releases.fill_secrets(wanted.environment, secrets)
        names = "\n".join(environment_names(before, after)) + "\n"
        pairs.append(("names of environment variables", "\n".join(sorted(before)) + "\n" if before else "", names))
    for what, before_text, after_text in pairs:
        if before_text != after_text:
            header = "%s: %s" % (wanted.name, what)
            shown.append({"before_header": header, "after_header": header, "before": before_text, "after": after_text})
    return shown


def would_change(job: phases.Job, phase: str) -> bool:
    """Return whether a phase would change the host."""
    candidates = job.candidates()
    if phase == "prepare":
        return any(not step.ready for _item, step in candidates) or bool(phases.abandoned(job))
    if phase == "migrate":
        return any(step.migrate for _item, step in candidates)
    if phase == "take_back":
        return any(seen.pending for seen in job.seen.values()) or bool(candidates)
    if phase == "give_back":
        return any(adoption.recorded(item.name) for item in job.wanted)
    if phase == "switch":
        return bool(candidates) or any(step.changed and step.front for step in job.plans.values())
    if phase == "commit":
        return any(step.repairs for step in job.plans.values())
    return any(step.changed for step in job.plans.values())


def perform(job: phases.Job, phase: str) -> bool:
    """Carry a phase out; return whether it changed the host."""
    phase_of = {
        "prepare": phases.prepare,
        "migrate": phases.migrate,
        "switch": phases.switch,
        "commit": phases.commit,
        "take_back": phases.take_back,
        "give_back": phases.give_back,
    }
    if phase != "all":
        return phase_of[phase](job)
    changed = False
    for step in ("prepare", "migrate", "switch", "commit"):
        if phase_of[step](job):
            changed = True
            job.refresh()
    return changed


def adoptions(job: phases.Job, phase: str) -> dict[str, str]:
    """Return, in words, which ports were taken over or given back, or would be given back."""
    told = {
        name: "%s %s, and nobody answered for %g ms"
        % ("started again" if item["given_back"] else "took over from", item["was"], item["outage_ms"])
        for name, item in job.adopted.items()
    }
    if phase == "give_back" and not told:
        records = {item.name: adoption.recorded(item.name) for item in job.wanted}
        told = {name: "would start %s again" % record["was"] for name, record in records.items() if record}
    return told


def look(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return, for each service, what is live, what was before, and what is kept."""
    found = {}
    for name in names:
        state = read_record(releases.state_path(name))
        kept = []
        for release in listed(releases.release_path(name)):
            record = read_record(os.path.join(releases.release_path(name, release), "release.json"))
            if record:
                archive = record.get("wanted", {}).get("archive", {})
                kept.append(
                    {
                        "release": release,
                        "artifact": record["artifact"],
                        "staged": record["staged"],
                        "bytes": archive.get("unpacked", 0),
                        "schema": read_list(os.path.join(releases.release_path(name, release), "schema.json")),
                    }
                )
        held = state.get("held") or {}
        found[name] = {
            "live": state.get("live") or {},
            "pending": state.get("pending") or {},
            "previous": release_files.previous(state),
            "held": held if held.get("until", 0) > time.time() else {},
            "history": state.get("history", []),
            "kept": sorted(kept, key=lambda item: -item["staged"]),
            "schema": read_list(os.path.join(releases.STATE, name, "schema.json")),
        }
    return found


def read_list(path: str) -> list[Any]:
    """Return the JSON list in a file, empty where there is none."""
    try:
        found = json.loads(read(path) or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def main() -> None:
    """Look, plan, carry out, report."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "required": True},
            "artifacts": {"type": "path"},
            "artifact_ids": {"type": "dict", "default": {}},
            "targets": {"type": "dict", "default": {}},
            "lacking": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "nodejs_archives": {"type": "dict", "default": {}},
            "phase": {
                "type": "str",
                "choices": ["plan", "prepare", "migrate", "switch", "commit", "take_back", "give_back", "all", "look"],
                "default": "all",
            },
            "deployment": {"type": "dict", "default": {}},
            "allow_contract_migrations": {"type": "bool", "default": False},
            "adopt": {"type": "bool", "default": False},
            "requests": {"type": "list", "elements": "dict", "default": []},
            "sent": {"type": "dict", "default": {}},
            "host": {"type": "str", "default": "this host"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    parameters = module.params
    secrets = parameters["secrets"]
    for value in secrets.values():
        # In addresses it stands percent-encoded.
        module.no_log_values.add(quote(value, safe=""))
    phase = parameters["phase"]
    if phase == "look":
        module.exit_json(changed=False, services=look([str(item["name"]) for item in parameters["requests"]]))
    deployment = parameters["deployment"]
    try:
        if phase == "give_back":
            adopted = (adoption.live_release(str(item["name"])) for item in parameters["requests"])
            wanted = [item for item in adopted if item]
        elif parameters["targets"]:
            wanted = [releases.load_wanted(name, release) for name, release in parameters["targets"].items()]
        else:
            wanted = releases.parse_wanted(parameters["requests"])
        job = phases.Job(
            parameters["host"],
            wanted,
            {},
            {},
            secrets,
            parameters["sent"],
            {"deployment": deployment["id"], "by": deployment["by"]} if deployment else {},
            parameters["allow_contract_migrations"],
            parameters["adopt"],
        )
        looks_only = phase == "plan" or module.check_mode
        job.refresh()
        # Nobody waits for a lock to learn that nothing differs.
        if not looks_only and would_change(job, phase):
            with leases.host_locked(releases.STATE):
                if deployment.get("number"):
                    leases.check_fence(int(deployment["number"]), releases.STATE)
                job.refresh()
                run(module, job, phase)
        changed = would_change(job, phase) and (module.check_mode or phase != "plan")
        report(module, job, phase, changed, done=False)
    except phases.ERRORS as error:
        module.fail_json(msg=phases.explain(error))


def lacking(job: phases.Job) -> list[str]:
    """Return the services whose archive the host lacks; none where it does not fit, which prepare explains."""
    try:
        return phases.missing_archives(job)
    except phases.ERRORS:
        return []


def run(module: AnsibleModule, job: phases.Job, phase: str) -> None:
    """Carry a phase out and end, or ask for the archives that it needs."""
    missing = phases.missing_archives(job) if phase in ("prepare", "all") else []
    if missing:
        module.exit_json(changed=False, needs=missing)
    first = dict(job.plans)
    changed = perform(job, phase)
    job.plans = first
    report(module, job, phase, changed, done=True)


def report(module: AnsibleModule, job: phases.Job, phase: str, changed: bool, done: bool) -> None:
    """End with what was done, or would be."""
    for warning in job.warnings:
        module.warn(warning)
    diff: list[dict[str, str]] = []
    # Of a run in phases, the first one that changes something shows everything.
    if phase in ("plan", "prepare", "all") or (phase in ("switch", "commit") and not done):
        for item in job.wanted:
            todo = job.plans[item.name]
            if todo.changed:
                diff += difference(item, todo, job.secrets, done)
    diff += [{"prepared": "%s: %s\n" % told} for told in adoptions(job, phase).items()]
    module.exit_json(
        changed=changed,
        adopted=job.adopted,
        services={name: todo.report() for name, todo in job.plans.items() if phase != "give_back"},
        differing=[name for name, todo in job.plans.items() if todo.changed],
        lacking=lacking(job) if phase == "plan" else [],
        diff=diff,
    )


if __name__ == "__main__":
    main()
