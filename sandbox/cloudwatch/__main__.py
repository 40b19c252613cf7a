"""moto's server with the stand-in in it: python3 -m sandbox.cloudwatch --host ADDRESS --port PORT."""

from __future__ import annotations

from moto import server

from sandbox.cloudwatch import api, evaluator

if __name__ == "__main__":
    print("moto, with a STAND-IN for what it lacks of CloudWatch. For the sandbox only.", flush=True)
    api.install()
    evaluator.start()
    server.main()
