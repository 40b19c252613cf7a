# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What an operator sees after a mistake: the cause and the cure, before any host is contacted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.harness import ROOT, Sandbox

CATALOGUE = (ROOT / "inventories" / "services.yml").read_text()
MISTAKES = {
    "a misspelt key": (("health: /healthz", "helth: /healthz"), ("helth", "health", "sites")),
    "an unknown need": (("needs: [api, collab]", "needs: [apis, collab]"), ("apis", "frontend", "api")),
    "a second port": (("port: 3002", "port: 99999"), ("99999", "sites")),
    "two mistakes at once": (("kind: nextjs\n    port: 3002", "kind: nexjs\n    port: 0"), ("nexjs", "nextjs", "0")),
    "a syntax error": (("kind: nextjs", "kind: [nextjs"), ("services.yml", "line")),
    "a pool over the budget": (("pool: 10", "pool: 100"), ("200", "120", "pool")),
}


#: What each mistake is told as, tests/unit/plan/test_refusals.py tries without a playbook.
ONCE = ("a syntax error", "two mistakes at once")


@pytest.mark.parametrize(
    "name", [name if name in ONCE else pytest.param(name, marks=pytest.mark.soak) for name in sorted(MISTAKES)]
)
def test_a_wrong_catalogue_is_refused_before_any_host_is_contacted(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    (old, new), expected = MISTAKES[name]
    assert old in CATALOGUE
    wrong = tmp_path / "services.yml"
    wrong.write_text(CATALOGUE.replace(old, new))
    run = sandbox.playbook("playbooks/site.yml", "-e", f"platform_catalogue_file={wrong}", measured=True)
    assert run.rc != 0
    for word in expected:
        assert word in run.output, run.output
    assert set(run.recap) == {"localhost"}, run.recap
    # Of the processor's time, of which other work on the machine takes up to half: caches and threads are shared.
    assert run.processor_seconds < 5, f"{run.processor_seconds:.1f} s, {run.seconds:.1f} s by the clock"


@pytest.mark.parametrize("playbook", ["deploy", "rollback"])
def test_a_service_that_the_catalogue_does_not_have_is_named(sandbox: Sandbox, playbook: str) -> None:
    run = sandbox.playbook(f"playbooks/{playbook}.yml", "-e", "service=sits")
    assert run.rc != 0 and not run.changed
    assert "unknown service 'sits'. Use one of: api, frontend, sites, collab" in " ".join(run.output.split()), (
        run.output
    )


def test_an_inventory_without_hosts_says_which_tags_were_looked_for(sandbox: Sandbox) -> None:
    run = sandbox.playbook("playbooks/site.yml", inventory=ROOT / "inventories" / "staging" / "aws_ec2.yml")
    assert run.rc != 0
    for word in ("Platform", "fivepointers", "Environment", "staging"):
        assert word in run.output, run.output


def test_an_unreachable_aws_endpoint_is_an_error(sandbox: Sandbox) -> None:
    run = sandbox.playbook(
        "playbooks/site.yml", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    )
    assert run.rc != 0
    assert "127.0.0.1:9" in run.output, run.output
