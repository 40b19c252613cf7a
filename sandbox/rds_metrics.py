"""STAND-IN for what RDS tells CloudWatch of a database: python3 -m sandbox.rds_metrics ENDPOINT REGION ENGINE.

It runs beside the server, in its container, and tells what that says under the name of each RDS instance of its engine
that the account has. Of RDS's metrics there is `DatabaseConnections` alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

from sandbox.cloudwatch_agent.agent import Api, ApiError
from sandbox.engines import ENGINES, Engine

EVERY = 60.0
AGAIN = 5.0


def main(endpoint: str, region: str, engine: str) -> None:
    """Tell it every minute; from an account without an RDS instance on, as soon as there is one."""
    api, said = Api(endpoint, region), ""
    while True:
        told, trouble = 0, ""
        try:
            told = tell(api, ENGINES[engine])
        except (ApiError, OSError, subprocess.SubprocessError) as error:
            trouble = f"rds_metrics, a STAND-IN: {error}"
        if trouble and trouble != said:
            print(trouble, file=sys.stderr, flush=True)
        said = trouble
        time.sleep(EVERY if told else AGAIN)


def tell(api: Api, engine: Engine) -> int:
    """Publish the number of connections of each instance; returns how many instances there are. Raises ApiError."""
    answer = api.query("rds", "2014-10-31", "DescribeDBInstances", {})
    facts = re.compile(r"<(DBInstanceIdentifier|Engine)>([^<]+)<")
    found = [dict(facts.findall(instance)) for instance in answer.split("<DBInstance>")]
    instances = [item["DBInstanceIdentifier"] for item in found if item.get("Engine") == engine.rds]
    for instance in instances:
        metric = {
            "Namespace": "AWS/RDS",
            "MetricData.member.1.MetricName": "DatabaseConnections",
            "MetricData.member.1.Unit": "Count",
            "MetricData.member.1.Value": connections(engine),
            "MetricData.member.1.Dimensions.member.1.Name": "DBInstanceIdentifier",
            "MetricData.member.1.Dimensions.member.1.Value": instance,
        }
        api.query("monitoring", "2010-08-01", "PutMetricData", metric)
    return len(instances)


def connections(engine: Engine) -> int:
    """Ask the server, by its socket, how many connections are open."""
    return int(subprocess.run(engine.connections, capture_output=True, text=True, check=True, timeout=10).stdout)


if __name__ == "__main__":
    print("A STAND-IN for what RDS tells CloudWatch. For the sandbox only.", flush=True)
    main(*sys.argv[1:])
