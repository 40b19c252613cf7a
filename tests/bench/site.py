# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What an unchanged run costs, beside the floor: the same hosts, facts and one ping.

Runs against the sandbox that ``make up`` made. ``python3 tests/bench/site.py [--rounds 3]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.harness import Sandbox

FLOOR = """---
- name: The floor
  hosts: platform
  gather_facts: true
  tasks:
    - name: Ping
      ansible.builtin.ping:
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    sandbox = Sandbox("sandbox")
    if not (sandbox.state / "endpoints.json").exists():
        print("bench: no sandbox is up; run `make up` first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        floor = Path(folder) / "floor.yml"
        floor.write_text(FLOOR)
        times: dict[str, list[float]] = {"floor: facts and a ping": [], "site.yml, unchanged": []}
        for _ in range(rounds):
            times["floor: facts and a ping"].append(sandbox.playbook(str(floor)).succeeded().seconds)
            run = sandbox.playbook("playbooks/site.yml").unchanged()
            times["site.yml, unchanged"].append(run.seconds)
    print(f"{len(sandbox.endpoints['hosts'])} hosts, {rounds} rounds, seconds")
    for name, seconds in times.items():
        print(f"{name:28} median {statistics.median(seconds):5.1f}   {'  '.join(f'{it:.1f}' for it in seconds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
