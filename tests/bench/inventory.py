# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measure the inventory over an account with 200 instances: python3 tests/bench/inventory.py

Prints seconds of `ansible-inventory`, asked of the API and from the cache: with --graph, which is what each playbook
waits for, and with --list, which also writes all variables; and what of that is the start of ansible-core itself (the
same command over one host). Once where production has a quarter of the instances, and once where it has all. Best of
five; processor time is what a machine without other work needs, and leaves out the API's own. Python keeps what it
compiled, as it does where pip installed Ansible. Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import logging
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.unit.aws import recorder

INSTANCES = 200
ENVIRONMENTS = ("production", "staging", "development", "sandbox")
INVENTORY = "inventories/production/aws_ec2.yml"
# Seconds of --graph.
BARS = {"asked": 3.0, "cached": 1.0}


def fill(api: recorder.Api, count: int, environments: Sequence[str]) -> None:
    """Run instances, spread over the environments."""
    ec2 = api.client("ec2")
    services = ("edge", "frontend", "api", "sites", "collab")
    for number in range(count):
        tags = {
            "Name": f"host-{number}",
            "Platform": "fivepointers",
            "Environment": environments[number % len(environments)],
            "Services": services[number // len(environments) % len(services)],
        }
        ec2.run_instances(
            ImageId="ami-12c6146b",
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            ],
        )


def measure(
    environment: Mapping[str, str], inventory: str, output: str, rounds: int = 5
) -> tuple[float, float, set[str]]:
    """Return the best wall and processor seconds, and the names of the hosts."""
    walls, processors, printed = [], [], ""
    for _round in range(rounds):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        printed = subprocess.run(
            ["ansible-inventory", "-i", inventory, output],
            cwd=recorder.ROOT,
            env=dict(environment),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(processors), set(re.findall(r"host-\d+_i-\w+", printed))


def main() -> int:
    """Print the figures; return whether a bar was missed."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    missed = []
    for environments in (ENVIRONMENTS, ENVIRONMENTS[:1]):
        print(f"{INSTANCES} instances, {len(environments)} environment(s)", flush=True)
        missed += show(environments)
    print(f"bars: {BARS}; missed: {', '.join(missed) or 'none'}")
    return int(bool(missed))


def show(environments: Sequence[str]) -> list[str]:
    """Print the figures of one account; return what missed its bar."""
    missed = []
    with recorder.Api() as api, tempfile.TemporaryDirectory() as folder:
        fill(api, INSTANCES, environments)
        base = {key: value for key, value in api.environment.items() if key != "PYTHONDONTWRITEBYTECODE"}
        base["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        cached = base | {
            "ANSIBLE_INVENTORY_CACHE": "true",
            "ANSIBLE_INVENTORY_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_INVENTORY_CACHE_CONNECTION": f"{folder}/cache",
        }
        cases = {"asked": (base, INVENTORY), "cached": (cached, INVENTORY), "start alone": (base, "localhost,")}
        for name, (environment, inventory) in cases.items():
            for output in ("--graph", "--list"):
                wall, processor, hosts = measure(environment, inventory, output)
                print(
                    f"{name}, {output}: {wall:.2f} s ({processor:.2f} s of processor time), {len(hosts)} hosts",
                    flush=True,
                )
                if inventory == INVENTORY and len(hosts) != INSTANCES // len(environments):
                    sys.exit(f"{name}: {len(hosts)} hosts are not those of the environment")
                if output == "--graph" and wall > BARS.get(name, wall):
                    missed.append(f"{name} {wall:.2f} s with {len(hosts)} hosts")
    return missed


if __name__ == "__main__":
    sys.exit(main())
