#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Configure the CloudWatch agent."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatch_agent_config
short_description: Configure the CloudWatch agent
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Compares the configuration with the one that the agent is running, and applies it only if they differ.
  - Keeps the source outside the agent's own directory, which the agent clears. Other configurations of the agent are
    left alone.
  - Allows the agent's user to read the journal and the logs in C(/var/log), and starts and enables the agent.
  - Restores the previous source if the agent rejects the new one.
options:
  configuration:
    description:
      - The configuration, in the agent's own format.
    type: dict
    required: true
  name:
    description:
      - Name of the configuration among the agent's configurations.
    type: str
    default: fivepointers
  mode:
    description:
      - Where the host runs. With V(auto) the agent detects it.
    type: str
    choices: [auto, ec2, onPremise]
    default: ec2
  user:
    description:
      - User that the agent runs as. It is added to O(groups).
    type: str
    default: cwagent
  groups:
    description:
      - Groups that O(user) needs to be in to read what is collected.
    type: list
    elements: str
    default: [adm, systemd-journal]
  agent_directory:
    description:
      - Where the agent is installed.
    type: path
    default: /opt/aws/amazon-cloudwatch-agent
  source_directory:
    description:
      - Directory that holds the source.
    type: path
    default: /etc/fivepointers
  state_directory:
    description:
      - Directory that records which files this module owns.
    type: path
    default: /var/lib/fivepointers/trees
attributes:
  check_mode:
    description: Reports what would change and whether the agent would restart, even if it is not installed yet.
    support: full
  diff_mode:
    description: Shows how the configuration changes.
    support: full
"""

EXAMPLES = r"""
- name: Collect the logs of the API
  fivepointers.platform.cloudwatch_agent_config:
    configuration:
      agent: {region: ap-northeast-2, run_as_user: cwagent}
      logs:
        logs_collected:
          journald:
            collect_list:
              - log_group_name: /fivepointers/production/api
                units: [fivepointers-api@blue.service, fivepointers-api@green.service]
"""

RETURN = r"""
reasons:
  description: Why something was changed; empty if nothing was.
  returned: always
  type: list
  elements: str
  sample: [the agent is running with another configuration]
metrics:
  description:
    - What the agent publishes with this configuration, for P(fivepointers.platform.cloudwatch_agent_cost#filter).
  returned: always
  type: dict
  contains:
    own: {description: Number of metrics of this host alone., type: int}
    shared: {description: Metrics shared by all hosts with this service., type: list, elements: str}
  sample: {own: 9, shared: [mem_used_percent Service=host]}
restarted:
  description: Whether the agent was, or would be, restarted.
  returned: always
  type: bool
"""

import contextlib
import dataclasses
import grp
import json
import pathlib
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.agent import published
from ansible_collections.fivepointers.platform.plugins.module_utils.common.config_tree import TreeError, apply_tree

UNIT = "amazon-cloudwatch-agent.service"


@dataclasses.dataclass(frozen=True)
class Found:
    """State of the host."""

    installed: bool
    live: t.Any
    translated: bool
    active: bool
    enabled: bool
    missing_groups: tuple[str, ...]


def plan(found: Found, wanted: t.Mapping[str, t.Any], user: str) -> tuple[list[str], list[str]]:
    """Return why the configuration must be applied, and why the agent must be started. Pure."""
    apply: list[str] = []
    start: list[str] = []
    if not found.installed:
        apply.append("the agent is not installed yet")
    elif found.live is None:
        apply.append("the agent does not have this configuration")
    elif found.live != wanted:
        apply.append("the agent is running with another configuration")
    elif not found.translated:
        apply.append("the agent has not translated its configuration")
    if found.missing_groups:
        apply.append(f"{user} is not a member of {', '.join(found.missing_groups)}")
    if found.installed and not found.active:
        start.append("the agent is not running")
    if found.installed and not found.enabled:
        start.append("the agent does not start at boot")
    return apply, start


class Agent:
    """The agent on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.directory = pathlib.Path(module.params["agent_directory"])
        self.ctl = self.directory / "bin" / "amazon-cloudwatch-agent-ctl"
        self.source = pathlib.Path(module.params["source_directory"]) / f"cloudwatch_agent/{module.params['name']}.json"

    def observe(self) -> Found:
        """Read the host's state."""
        etc = self.directory / "etc"
        live = None
        with contextlib.suppress(OSError, ValueError):
            live = json.loads((etc / "amazon-cloudwatch-agent.d" / f"file_{self.source.name}").read_text())
        return Found(
            installed=self.ctl.exists(),
            live=live,
            translated=(etc / "amazon-cloudwatch-agent.toml").exists(),
            active=self._systemctl("is-active"),
            enabled=self._systemctl("is-enabled"),
            missing_groups=tuple(name for name in self.module.params["groups"] if not self._member(name)),
        )

    def command(self) -> list[str]:
        """Return the agent's own command to load the source and restart. Its other configurations are kept."""
        location = f"file:{self.source}"
        return [str(self.ctl), "-a", "append-config", "-m", self.module.params["mode"], "-c", location, "-s"]

    def join(self, groups: t.Iterable[str]) -> None:
        """Make the agent's user a member of the groups."""
        self.run(["usermod", "--append", "--groups", ",".join(groups), self.module.params["user"]])

    def start(self) -> None:
        """Start the agent, now and at boot."""
        self.run(["systemctl", "enable", "--now", UNIT])

    def run(self, argv: list[str]) -> None:
        """Run a command, or fail with its output."""
        rc, out, err = self.module.run_command(argv)
        if rc:
            said = "\n".join((out + err).strip().splitlines()[-30:])
            self.module.fail_json(msg=f"`{' '.join(argv)}` failed with {rc}:\n{said}", rc=rc)

    def _systemctl(self, verb: str) -> bool:
        # Without systemd (an unprepared host in check mode, a container) nothing is active.
        if not self.module.get_bin_path("systemctl"):
            return False
        return self.module.run_command(["systemctl", verb, "--quiet", UNIT])[0] == 0

    def _member(self, group: str) -> bool:
        try:
            return self.module.params["user"] in grp.getgrnam(group).gr_mem
        except KeyError:
            return False


def apply(module: AnsibleModule) -> dict[str, t.Any]:
    """Apply the plan, and report."""
    agent = Agent(module)
    wanted = module.params["configuration"]
    found = agent.observe()
    to_apply, to_start = plan(found, wanted, module.params["user"])
    reasons = to_apply + to_start
    if not found.installed and not module.check_mode:
        module.fail_json(
            msg=f"{agent.ctl} does not exist: the CloudWatch agent is not installed. Install the package "
            "amazon-cloudwatch-agent first, or set agent_directory to its path."
        )
    if found.missing_groups and not module.check_mode:
        agent.join(found.missing_groups)
    tree = apply_tree(
        {
            "root": module.params["source_directory"],
            "owner": "cloudwatch-agent",
            "files": [
                {
                    "path": str(agent.source.relative_to(module.params["source_directory"])),
                    "content": json.dumps(wanted, indent=2, sort_keys=True) + "\n",
                    "mode": "0644",
                }
            ],
            "reload": agent.command(),
            "state_dir": module.params["state_directory"],
        },
        check=module.check_mode,
    )
    if tree["changed"] and not to_apply:
        reasons.append("the source of the configuration differs")
    if not module.check_mode:
        if to_apply and not tree["reloaded"]:
            agent.run(agent.command())
        elif to_start and not tree["reloaded"]:
            agent.start()
        if reasons and not agent.observe().active:
            agent.run(["systemctl", "status", "--no-pager", "--lines=20", UNIT])
    return {
        "changed": bool(reasons),
        "metrics": published(wanted),
        "reasons": reasons,
        "restarted": bool(to_apply or tree["changed"]),
        "diff": tree["diff"],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "configuration": {"type": "dict", "required": True},
            "name": {"type": "str", "default": "fivepointers"},
            "mode": {"type": "str", "choices": ["auto", "ec2", "onPremise"], "default": "ec2"},
            "user": {"type": "str", "default": "cwagent"},
            "groups": {"type": "list", "elements": "str", "default": ["adm", "systemd-journal"]},
            "agent_directory": {"type": "path", "default": "/opt/aws/amazon-cloudwatch-agent"},
            "source_directory": {"type": "path", "default": "/etc/fivepointers"},
            "state_directory": {"type": "path", "default": "/var/lib/fivepointers/trees"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**apply(module))
    except TreeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
