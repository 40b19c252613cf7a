# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The CloudWatch agent's configuration: what it is for a host, and which mistakes the agent would not notice.

Pure: nothing here reads or writes anything. The shape of the configuration is the agent's own
(C(translator/config/schema.json) of aws/amazon-cloudwatch-agent).
"""

from __future__ import annotations

import difflib
import typing as t

#: Days for which CloudWatch Logs can keep events. -1 keeps them for ever.
RETENTION_DAYS = tuple(
    int(days)
    for days in ("-1 1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653").split()
)

#: The keys of the configuration that the published schema leaves open, and so does not check.
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

#: What each collector on Linux can measure. The schema accepts any name, and the agent ignores the unknown ones.
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


class ConfigurationError(ValueError):
    """The configuration is wrong. The text names every mistake, the value and the fix."""


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
    additional: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Derive the agent's configuration for one host.

    :param services: names of what runs on the host; C(nginx) stands for the front and the edge.
    :param log_groups: service name to log group. Services without one are not collected.
    :param metrics: the section C(metrics_collected), as the agent wants it; empty for no metrics.
    :param additional: merged over the result; lists are appended.
    :raises ConfigurationError: with all mistakes at once.
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
    if metrics:
        result["metrics"] = {
            "namespace": namespace,
            "append_dimensions": {"InstanceId": "${aws:InstanceId}"},
            "metrics_collected": dict(metrics),
            **endpoint,
        }
    result = merge(result, additional or {})
    mistakes = problems(result)
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return result


def units(service: str) -> list[str]:
    """The systemd units that write a service's logs.

    Both slots are named in full: journalctl resolves a pattern only once, when the agent starts, and would miss the
    slot that comes up with the next release.
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
    """Name the mistakes that the agent would accept in silence, and those that it reports without saying where."""
    found: list[str] = []
    for section, known in SECTIONS.items():
        found += _unknown(config.get(section, {}) if section else config, known, section)
    for collector, content in config.get("logs", {}).get("logs_collected", {}).items():
        for index, entry in enumerate(content.get("collect_list", [])):
            found += _log_problems(collector, entry, f"logs.logs_collected.{collector}.collect_list[{index}]")
    for collector, content in config.get("metrics", {}).get("metrics_collected", {}).items():
        found += _metric_problems(collector, content, f"metrics.metrics_collected.{collector}")
    return found


def _log_problems(collector: str, entry: t.Mapping[str, t.Any], where: str) -> list[str]:
    found = []
    days = entry.get("retention_in_days", -1)
    if days not in RETENTION_DAYS:
        known = ", ".join(map(str, RETENTION_DAYS))
        found.append(
            f"{where}.retention_in_days: {days!r} is not a time that CloudWatch Logs knows; use one of {known}"
        )
    if collector == "journald" and not entry.get("log_group_name"):
        found.append(f"{where}.log_group_name: missing; name the log group")
    return found


def _metric_problems(collector: str, content: t.Any, where: str) -> list[str]:
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
            found.append(f"{where}.measurement: missing; list what to measure, such as {names[0]}")
            continue
        for item in entry["measurement"]:
            name = str(item.get("name", "") if isinstance(item, t.Mapping) else item)
            if name.removeprefix(f"{collector}_") not in names:
                prefixed = [f"{collector}_{it}" for it in names]
                found.append(f"{where}.measurement: unknown name {name!r}{_meant(name, names + prefixed)}")
    return found


def _unknown(section: t.Mapping[str, t.Any], known: t.Sequence[str], where: str) -> list[str]:
    place = f"{where}." if where else ""
    return [f"{place}{key}: unknown key{_meant(key, known)}" for key in section if key not in known]


def _meant(word: str, known: t.Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known[:20])}"
