"""A stand-in for the Amazon CloudWatch agent's package, which no registry that the sandbox may reach offers.

It has the same package, commands, files and unit as the real one, says in its description, output and log that it is
a stand-in, checks configurations against the agent's published schema (schema.json, MIT, schema.LICENSE), and ships
what it collects to the CloudWatch API at `endpoint_override`. It measures what standin_metrics.py names, and says in
its log what else it was asked for.
"""

from sandbox.cloudwatch_agent.package import build

__all__ = ["build"]
