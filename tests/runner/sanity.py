"""ansible-test sanity, on a copy outside the repository.

Run in place, through the link farm, ansible-test finds no target and is content. So it gets a copy of what the
collection ships, and has to find a planted mistake before its verdict counts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the collection ships, and what ansible-test reads about it.
SHIPPED = ("LICENSE", "README.md", "changelogs", "galaxy.yml", "meta", "playbooks", "plugins", "roles")
ABOUT = ("tests/config.yml", "tests/sanity")
DEPENDENCIES = ("amazon/aws",)
# Without these, the rest would say little.
ESSENTIAL = ("ansible-doc", "compile", "import", "pep8", "pylint", "validate-modules", "yamllint")

# ansible-test fetches its pip from a host of its own. Python brings one, and the package index has the rest.
BOOTSTRAP = """\
# Written by the fivepointers.platform tests in place of get-pip.py, whose host may be out of reach.
import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
options = [option for option in sys.argv[1:] if option not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *options]).returncode)
"""

PLANTED = '''\
#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Planted by the tests: whoever finds nothing here does not look."""
from __future__ import annotations
DOCUMENTATION = """
module: planted
short_description: Has an option that the code does not know
description: Has an option that the code does not know.
author: Five Pointers (@fivepointers)
options:
  unknown: {type: str, description: Not in the code.}
"""
EXAMPLES = ""
RETURN = ""
from ansible.module_utils.basic import AnsibleModule
def main():
    AnsibleModule(argument_spec={})
if __name__ == "__main__":
    main()
'''


def copy(folder: Path) -> Path:
    """Copy what the collection ships to where ansible-test wants it."""
    target = folder / "ansible_collections/fivepointers/platform"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SHIPPED, *ABOUT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        # A file that was deleted and not committed yet is still listed.
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    # What modules import, and take documentation from. ansible-test looks beside the collection only.
    for name in DEPENDENCIES:
        place = folder / "ansible_collections" / name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(Path(sysconfig.get_path("purelib")) / "ansible_collections" / name)
    return target


def bootstrap() -> None:
    """Let ansible-test make its virtual environments without the host that its pip comes from."""
    import ansible_test

    source = Path(ansible_test.__file__).parent / "_internal/python_requirements.py"
    version = re.search(r"\bpip='([\d.]+)'", source.read_text())
    if not version:
        raise SystemExit(f"sanity: {source} no longer says which pip it wants; adapt tests/runner/sanity.py")
    script = Path.home() / f".ansible/test/cache/get_pip_{version[1].replace('.', '_')}.py"
    if not script.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(BOOTSTRAP)


def ansible_test(directory: Path, *args: str) -> tuple[int, str]:
    """Run it; its output goes on as it comes."""
    command = ["ansible-test", "sanity", "--python", f"{sys.version_info[0]}.{sys.version_info[1]}", "--color", "no"]
    process = subprocess.Popen(
        [*command, *args], cwd=directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(line, end="", flush=True)
    return process.wait(), "".join(lines)


def tests_run(output: str) -> list[str]:
    """Names of the sanity tests that were run."""
    return re.findall(r'^Running sanity test "([^"]+)"', output, re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--junit-xml", type=Path, required=True)
    options = parser.parse_args()
    bootstrap()
    with tempfile.TemporaryDirectory() as folder:
        collection = copy(Path(folder))
        planted = collection / "plugins/modules/planted.py"
        planted.write_text(PLANTED)
        found = ansible_test(collection, "--test", "validate-modules", "plugins/modules/planted.py")[1]
        planted.unlink()
        if "plugins/modules/planted.py:0:0: nonexistent-parameter-documented" not in found:
            print("sanity: ansible-test did not find a planted mistake, so it tests nothing.")
            return 1
        print("\nThe planted mistake was found. Now for the collection itself.\n")
        status, output = ansible_test(collection)
    run = tests_run(output)
    missing = [name for name in ESSENTIAL if name not in run]
    if missing:
        print(f"sanity: these were not run: {', '.join(missing)}")
        return 1
    failed = set(output.split("FATAL: The ")[1].split("\n")[1:]) & set(run) if "FATAL: The " in output else set()
    write_junit(options.junit_xml, run, failed)
    return status


def write_junit(path: Path, run: list[str], failed: set[str]) -> None:
    """Count each sanity test as one test."""
    names = sorted(set(run))
    cases = "".join(f'<testcase name="{name}">{"<failure/>" * (name in failed)}</testcase>' for name in names)
    path.write_text(f'<testsuite tests="{len(names)}" failures="{len(failed)}">{cases}</testsuite>')


if __name__ == "__main__":
    sys.exit(main())
