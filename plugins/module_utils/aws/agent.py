# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The CloudWatch agent's configuration for a host, the mistakes that the agent does not report, and the cost.

Pure functions. The shape of the configuration is the agent's own
(C(translator/config/schema.json) of aws/amazon-cloudwatch-agent).

Each metric has the dimension C(Service): a service's name, C(nginx), or C(host) for the whole host. The
agent adds the instance, and publishes each metric a second time with C(Service) alone, so that an alarm on its minimum
or maximum covers all hosts without naming an instance.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import typing as t

#: Retention periods of CloudWatch Logs, in days. -1 keeps events forever.
RETENTION_DAYS = tuple(
    int(days)
    for days in ("-1 1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653").split()
)

#: Known keys where the published schema accepts any key.
SECTIONS = {
    "": "agent metrics logs traces opentelemetry".split(),
    "agent": (
        "metrics_collection_interval logfile region debug aws_sdk_log_level credentials omit_hostname run_as_user "
        "user_agent quiet internal usage_data use_dualstack_endpoint service.name deployment.environment"
    ).split(),
}

_CPU_STATES = "active guest guest_nice idle iowait irq nice softirq steal system user".split()
_LIMITS = (
    "cpu_time file_locks memory_data memory_locked memory_rss memory_stack memory_vms nice_priority num_fds "
    "realtime_priority signals_pending"
).split()

#: Measurements of each collector on Linux. The schema accepts any name, and the agent ignores unknown ones.
MEASUREMENTS = {
    "cpu": [f"{kind}_{state}" for kind in ("time", "usage") for state in _CPU_STATES],
    "disk": "free inodes_free inodes_total inodes_used total used used_percent".split(),
    "diskio": "io_time iops_in_progress read_bytes read_time reads write_bytes write_time writes".split(),
    "mem": ("active available available_percent buffered cached free inactive shared total used used_percent").split(),
    "net": "bytes_recv bytes_sent drop_in drop_out err_in err_out packets_recv packets_sent".split(),
    "netstat": (
        "tcp_close tcp_close_wait tcp_closing tcp_established tcp_fin_wait1 tcp_fin_wait2 tcp_last_ack tcp_listen "
        "tcp_none tcp_syn_recv tcp_syn_sent tcp_time_wait udp_socket"
    ).split(),
    "processes": "blocked dead idle paging running sleeping stopped total total_threads wait zombies".split(),
    "procstat": (
        "cpu_time cpu_time_system cpu_time_user cpu_usage involuntary_context_switches memory_data memory_locked "
        "memory_rss memory_stack memory_swap memory_vms num_fds num_threads pid pid_count read_bytes read_count "
        "realtime_priority signals_pending voluntary_context_switches write_bytes write_count"
    ).split()
    + [f"rlimit_{limit}_{kind}" for limit in _LIMITS for kind in ("hard", "soft")],
    "swap": "free used used_percent".split(),
}

#: Collectors without a fixed list of measurements.
OPEN_COLLECTORS = ("collectd", "efa", "ethtool", "jmx", "nvidia_gpu", "nvidia_smi", "otlp", "prometheus", "statsd")


#: Command lines of nginx, which sets its own process titles.
NGINX = "^nginx: (master|worker) process"
#: Whether a process is running (0 if none matches), and its resource usage.
PROCESS_MEASUREMENTS = ["pid_count", "cpu_usage", "memory_rss"]
#: Regular expression syntax that Python supports and Go does not.
NOT_IN_GO = re.compile(r"\(\?(?:[=!>#(]|<[=!]|P=)|(?<!\\)(?:\\\\)*\\[1-9]")
TIMESTAMP = re.compile(r"%-?.?")
TIMESTAMP_DIRECTIVES = "%A %a %B %b %d %-d %f %H %I %-I %M %-M %m %-m %p %S %-S %Y %y %Z %z".split()
OWN_DIMENSIONS = {key: f"${{aws:{key}}}" for key in ("AutoScalingGroupName", "ImageId", "InstanceId", "InstanceType")}

#: AWS's list prices in USD, without tax and free allowances. Other regions differ somewhat.
PRICED = "list prices of us-east-1, February 2026"
#: The monthly price of one metric, by number of metrics.
METRIC_PRICES: tuple[tuple[float, float], ...] = (
    (10_000, 0.30),
    (250_000, 0.10),
    (1_000_000, 0.05),
    (float("inf"), 0.02),
)
LOGS_PRICE = 0.50


class ConfigurationError(ValueError):
    """The configuration is invalid. The text names every mistake, the value and the fix."""


def configuration(
    services: t.Sequence[str],
    log_groups: t.Mapping[str, str],
    *,
    region: str,
    log_stream: str,
    retention_days: int,
    namespace: str,
    metrics: t.Mapping[str, t.Any],
    interval: int = 60,
    user: str = "cwagent",
    endpoint_url: str = "",
    processes: t.Mapping[str, str] | None = None,
    files: t.Sequence[t.Mapping[str, str]] = (),
    statsd: str = "",
    additional: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Derive the agent's configuration for one host.

    :param services: names of the services on the host; C(nginx) means the front and the edge.
    :param log_groups: service name to log group. Services without one are not collected.
    :param metrics: the section C(metrics_collected), in the agent's own format; empty for no metrics.
    :param processes: service name to a regular expression for its command lines; empty ones are left out.
    :param files: files to collect line by line: C(path), C(log_group), and C(timestamp_format) if lines have a time.
    :param statsd: address and port where services can send metrics; empty for none.
    :param additional: merged into the result; lists are appended.
    :raises ConfigurationError: listing all mistakes.
    """
    collected = [
        {
            "log_group_name": log_groups[service],
            "log_stream_name": log_stream,
            "retention_in_days": retention_days,
            "units": units(service),
        }
        for service in sorted(set(services) & set(log_groups))
    ]
    endpoint = {"endpoint_override": endpoint_url} if endpoint_url else {}
    result: dict[str, t.Any] = {
        "agent": {"metrics_collection_interval": interval, "region": region, "run_as_user": user},
    }
    if collected:
        result["logs"] = {"logs_collected": {"journald": {"collect_list": collected}}, **endpoint}
    lines = [_file(entry, log_stream, retention_days) for entry in files]
    if lines:
        result.setdefault("logs", {"logs_collected": {}, **endpoint})["logs_collected"]["files"] = {
            "collect_list": lines
        }
    runs = {**(processes or {}), **({"nginx": NGINX} if "nginx" in services else {})}
    measured = _collectors(metrics, runs if metrics else {}, statsd)
    if measured:
        result["metrics"] = {
            "namespace": namespace,
            "append_dimensions": {"InstanceId": OWN_DIMENSIONS["InstanceId"]},
            "aggregation_dimensions": [["Service"]],
            "metrics_collected": measured,
            **endpoint,
        }
    result = merge(result, additional or {})
    mistakes = problems(result)
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return result


def _file(entry: t.Mapping[str, str], log_stream: str, retention_days: int) -> dict[str, t.Any]:
    path = entry.get("path", "")
    result: dict[str, t.Any] = {
        "file_path": path,
        "log_group_name": entry.get("log_group", ""),
        # Two sources of one stream would wait for each other's timestamps.
        "log_stream_name": f"{log_stream}/{posixpath.splitext(posixpath.basename(path))[0]}",
        "retention_in_days": retention_days,
    }
    if entry.get("timestamp_format"):
        result.update(timestamp_format=entry["timestamp_format"], timezone="Local")
    return result


def _collectors(metrics: t.Mapping[str, t.Any], processes: t.Mapping[str, str], statsd: str) -> dict[str, t.Any]:
    """Return the section C(metrics_collected)."""
    result: dict[str, t.Any] = {}
    for collector, content in metrics.items():
        if isinstance(content, t.Mapping) and collector not in OPEN_COLLECTORS:
            content = {**content, "append_dimensions": {"Service": "host", **content.get("append_dimensions", {})}}
        result[collector] = content
    entries = [
        {"pattern": pattern, "append_dimensions": {"Service": service}, "measurement": list(PROCESS_MEASUREMENTS)}
        for service, pattern in sorted(processes.items())
        if pattern
    ]
    if entries:
        result["procstat"] = entries + list(result.get("procstat") or [])
    if statsd:
        result["statsd"] = {
            "service_address": statsd,
            "metrics_collection_interval": 60,
            "metrics_aggregation_interval": 60,
        }
    return result


def units(service: str) -> list[str]:
    """Return the systemd units that write a service's logs.

    Both slots are listed: journalctl resolves a pattern only once, when the agent starts, and would miss the slot that
    the next release starts in.
    """
    if service == "nginx":
        return ["nginx.service"]
    return [f"fivepointers-{service}@{slot}.service" for slot in ("blue", "green")]


def merge(base: t.Mapping[str, t.Any], over: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Merge two configurations: mappings key by key, lists appended, anything else replaced."""
    result = dict(base)
    for key, value in over.items():
        mine = result.get(key)
        if isinstance(mine, t.Mapping) and isinstance(value, t.Mapping):
            result[key] = merge(mine, value)
        elif isinstance(mine, list) and isinstance(value, list):
            result[key] = mine + [item for item in value if item not in mine]
        else:
            result[key] = value
    return result


def problems(config: t.Mapping[str, t.Any]) -> list[str]:
    """Return the mistakes that the agent accepts silently, and those that it reports without their location."""
    found: list[str] = []
    for section, known in SECTIONS.items():
        found += _unknown(config.get(section, {}) if section else config, known, section)
    for collector, content in config.get("logs", {}).get("logs_collected", {}).items():
        for index, entry in enumerate(content.get("collect_list", [])):
            found += _log_problems(collector, entry, f"logs.logs_collected.{collector}.collect_list[{index}]")
    found += _double_files(config)
    metrics = config.get("metrics", {})
    namespace = str(metrics.get("namespace", ""))
    if namespace.startswith(("AWS/", ":")):
        found.append(f"metrics.namespace: {namespace!r} is rejected by CloudWatch, which reserves AWS/; choose another")
    for key, value in metrics.get("append_dimensions", {}).items():
        if OWN_DIMENSIONS.get(key) != value:
            usable = ", ".join(f"{name}: {own}" for name, own in OWN_DIMENSIONS.items())
            found.append(f"metrics.append_dimensions.{key}: {value!r} is ignored by the agent; known: {usable}")
    for collector, content in metrics.get("metrics_collected", {}).items():
        found += _metric_problems(collector, content, f"metrics.metrics_collected.{collector}")
    user = config.get("agent", {}).get("run_as_user", "root")
    for index, entry in enumerate(_procstat(config)):
        found += _process_problems(entry, user, f"metrics.metrics_collected.procstat[{index}]")
    return found


def _procstat(config: t.Mapping[str, t.Any]) -> list[t.Mapping[str, t.Any]]:
    entries = config.get("metrics", {}).get("metrics_collected", {}).get("procstat", [])
    return [entry for entry in entries if isinstance(entry, t.Mapping)] if isinstance(entries, list) else []


def _process_problems(entry: t.Mapping[str, t.Any], user: str, where: str) -> list[str]:
    found = []
    for key in ("exe", "pattern"):
        if key not in entry:
            continue
        expression = str(entry[key])
        try:
            re.compile(expression)
            wrong = "no look-around or back references" if NOT_IN_GO.search(expression) else ""
        except re.error as error:
            wrong = str(error)
        if wrong:
            found.append(
                f"{where}.{key}: {expression!r} is not a valid regular expression for the agent ({wrong}); correct it"
            )
    if "exe" in entry and user != "root":
        found.append(
            f"{where}.exe: {entry['exe']!r} would never match, since {user} cannot see the programs of other users' "
            "processes; use pattern, which matches command lines"
        )
    if "pid_file" in entry and not str(entry["pid_file"]).startswith("/"):
        found.append(f"{where}.pid_file: {entry['pid_file']!r} is not an absolute path; write one")
    return found


def _double_files(config: t.Mapping[str, t.Any]) -> list[str]:
    paths = [
        str(entry.get("file_path"))
        for entry in config.get("logs", {}).get("logs_collected", {}).get("files", {}).get("collect_list", [])
    ]
    return [
        f"logs.logs_collected.files: {path} is listed {paths.count(path)} times and would be sent as often; remove one"
        for path in sorted(set(paths))
        if paths.count(path) > 1
    ]


def _log_problems(collector: str, entry: t.Mapping[str, t.Any], where: str) -> list[str]:
    found = []
    days = entry.get("retention_in_days", -1)
    if days not in RETENTION_DAYS:
        known = ", ".join(map(str, RETENTION_DAYS))
        found.append(f"{where}.retention_in_days: {days!r} is not a retention of CloudWatch Logs; use one of {known}")
    group = str(entry.get("log_group_name", ""))
    # The default for a file is its path, and an explicit name must not be empty.
    if not group and (collector == "journald" or "log_group_name" in entry):
        found.append(f"{where}.log_group_name: value is missing; name the log group")
    # The agent replaces placeholders in braces.
    if re.search(r"[^A-Za-z0-9._/#{}-]", group):
        found.append(f"{where}.log_group_name: {group!r} is not a valid name; use letters, digits and . _ / # -")
    stream = str(entry.get("log_stream_name", ""))
    if re.search("[:*]", stream):
        found.append(f"{where}.log_stream_name: {stream!r} is not a valid name; remove : and *")
    if collector == "files":
        path = str(entry.get("file_path", ""))
        if not path.startswith("/"):
            found.append(f"{where}.file_path: {path!r} is not an absolute path; write one")
        unknown = [
            word for word in TIMESTAMP.findall(entry.get("timestamp_format", "")) if word not in TIMESTAMP_DIRECTIVES
        ]
        if unknown:
            known = " ".join(TIMESTAMP_DIRECTIVES)
            found.append(f"{where}.timestamp_format: {', '.join(unknown)} is not supported by the agent; use {known}")
    return found


def _metric_problems(collector: str, content: t.Any, where: str) -> list[str]:
    if collector == "statsd" and isinstance(content, t.Mapping) and content.get("service_address", "") != "":
        address = str(content["service_address"])
        if not address.startswith(("127.", "localhost:", "[::1]:")):
            return [f"{where}.service_address: {address!r} accepts metrics from anyone; write 127.0.0.1:8125"]
    if collector in OPEN_COLLECTORS:
        return []
    if collector not in MEASUREMENTS:
        return [f"{where}: unknown collector{_meant(collector, [*MEASUREMENTS, *OPEN_COLLECTORS])}"]
    if (collector == "procstat") != isinstance(content, list):
        return [f"{where}: must be {'a list of mappings' if collector == 'procstat' else 'a mapping'}"]
    names = MEASUREMENTS[collector]
    found = []
    for entry in content if isinstance(content, list) else [content]:
        if not isinstance(entry, t.Mapping) or not entry.get("measurement"):
            found.append(f"{where}.measurement: value is missing; list what to measure, such as {names[0]}")
            continue
        for item in entry["measurement"]:
            name = str(item.get("name", "") if isinstance(item, t.Mapping) else item)
            if name.removeprefix(f"{collector}_") not in names:
                prefixed = [f"{collector}_{it}" for it in names]
                found.append(f"{where}.measurement: unknown name {name!r}{_meant(name, names + prefixed)}")
    return found


def published(config: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return what a host's agent publishes: the number of its own metrics, and those shared with other hosts.

    Resources that are not named (C(*)) count once; metrics that services send to StatsD are not included.
    """
    metrics = config.get("metrics", {})
    rollups = [list(dimensions) for dimensions in metrics.get("aggregation_dimensions", [])]
    own, shared = 0, set()
    for collector, content in metrics.get("metrics_collected", {}).items():
        for entry in content if isinstance(content, list) else [content]:
            if not isinstance(entry, t.Mapping):
                continue
            stated = entry.get("append_dimensions", {})
            for item in entry.get("measurement", []):
                name = metric_name(collector, str(item["name"] if isinstance(item, t.Mapping) else item))
                own += max(1, len(entry.get("resources", [])))
                shared |= {
                    f"{name} {key}={stated[key]}"
                    for rollup in rollups
                    if len(rollup) == 1
                    for key in rollup
                    if key in stated
                }
    return {"own": own, "shared": sorted(shared)}


def metric_name(collector: str, measurement: str) -> str:
    """Return a metric's name in CloudWatch."""
    name = measurement[len(collector) + 1 :] if measurement.startswith(f"{collector}_") else measurement
    return "procstat_lookup_pid_count" if (collector, name) == ("procstat", "pid_count") else f"{collector}_{name}"


def monthly_cost(hosts: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """Return the monthly cost of the metrics of these hosts, from the results of L(published)."""
    shared = {name for host in hosts for name in host["shared"]}
    count = sum(host["own"] for host in hosts) + len(shared)
    cost, below = 0.0, 0.0
    for most, price in METRIC_PRICES:
        above = min(count, most)
        cost += (above - below) * price
        below = above
    return {
        "metrics": count,
        "usd": round(cost, 2),
        "text": (
            f"{len(hosts)} host{'s' if len(hosts) != 1 else ''} publish {count} metrics: about {cost:.2f} USD a month "
            f"({PRICED}). Not included: logs, {LOGS_PRICE:.2f} USD per ingested GB; metrics that services send to "
            f"StatsD, {METRIC_PRICES[0][1]:.2f} USD per combination of name and tags."
        ),
    }


def _unknown(section: t.Mapping[str, t.Any], known: t.Sequence[str], where: str) -> list[str]:
    place = f"{where}." if where else ""
    return [f"{place}{key}: unknown key{_meant(key, known)}" for key in section if key not in known]


def _meant(word: str, known: t.Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known[:20])}"
