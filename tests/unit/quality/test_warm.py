"""What the tests start in the place of Ansible's programs behaves as these do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm

pytestmark = pytest.mark.slow
TELL = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ["WORD"], "boto3" in sys.modules, os.getppid()]))
print("error", file=sys.stderr)
sys.exit(7)
"""


def run(name: str, *arguments: str, text: str = "", cwd: Path | None = None, **environment: str):
    command = [str(warm.programs() / name), *arguments]
    where = {**os.environ, **environment}
    return subprocess.run(command, input=text, env=where, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_module_has_its_input_output_environment_directory_and_status(tmp_path: Path) -> None:
    done = run("python", text=TELL, cwd=tmp_path, WORD="a word")
    told = json.loads(done.stdout)
    assert told[:4] == [[], str(tmp_path), "a word", True]
    assert done.stderr == "error\n"
    assert done.returncode == 7
    # With other settings of Ansible, and for anything else, it is the real Python.
    assert json.loads(run("python", text=TELL, WORD="a word", ANSIBLE_FORKS="1").stdout)[3] is False
    done = run("python", "-c", TELL, "x", WORD="a word")
    assert json.loads(done.stdout)[:4] == [["x"], os.getcwd(), "a word", False]
    assert done.returncode == 7


def test_what_fails_says_so() -> None:
    done = run("python", text="1 / 0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ZeroDivisionError" in done.stderr
    assert run("python", text="import os; os.kill(os.getpid(), 9)").returncode == 256 - signal.SIGKILL


def test_who_is_stopped_stops_its_program(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([warm.programs() / "python"], stdin=-1, stdout=-1) as client:
        assert client.stdin and client.stdout
        client.stdin.write(code.encode())
        client.stdin.close()
        pid = int(client.stdout.readline())
        ended = os.pidfd_open(pid)
        client.kill()
        assert client.stdout.read() == b"", "its end"
        os.close(ended)


def test_ansible_answers_the_same() -> None:
    program = Path(sys.executable).with_name("ansible-inventory")
    # The second one is refused.
    for arguments in (["-i", "a,b", "--list"], []):
        done = run("ansible-inventory", *arguments)
        real = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (real.returncode, real.stdout, real.stderr)
        assert (done.returncode == 0) == bool(arguments)
