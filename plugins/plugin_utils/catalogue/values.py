# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Checks for single values of the catalogue and the environment."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import PROGRAMS
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import PlaceholderError, parse
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    HIDDEN,
    Report,
    integer,
    items,
    listed,
    refuse_type,
    text,
)

# Words of tags and placeholders; names already used by derived variables, folders (of artifacts and of hosts), log
# groups and metrics; endpoints of flows that are not services; and Ansible's tags.
RESERVED_NAMES = frozenset(
    "edge platform self environment secret origins public service node nginx "
    "host verify synthetic world load-balancer hosts instance-connect deployments trees "
    "build all always never tagged untagged config release monitoring".split()
)
# Keywords of a content security policy. Without single quotes, browsers read them as host names.
CSP_WORDS = re.compile(
    r"(?i:none|self|strict-dynamic|report-sample|(?:unsafe|wasm-unsafe)-[a-z-]+|(?:nonce|sha(?:256|384|512))-.+)"
)
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Programs that start others, and hide signals, restarts or logs from systemd.
WRAPPERS = PROGRAMS | {"pm2", "forever", "nohup", "nodemon"}
SHELL_WORDS = frozenset("&& || | ; & > >> < 2>&1".split())

variable = text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable: letters, digits and underscores")
memory = text(r"[1-9]\d*[KMGT]", "a size such as 512M or 1G")
body_limit = text(r"\d+[kmg]?", "a size for nginx such as 512k, 1m or 1g")
limited_request = text(
    r"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (?!.*//)(?!.*/\.\.?(?:/|$))/[A-Za-z0-9._~/-]*",
    "a method and a full path, such as POST /api/auth/login",
)
rate = text(r"[1-9]\d{0,5}/[sm]", "requests per second or minute, such as 5/s or 30/m")
line = text(r"[^\x00-\x1f\x7f]+", "one line of text")
folder = text(r"[^\x00-\x1f\x7f]+", "a folder relative to the catalogue file")
pem_file = text(r"[^\x00-\x1f\x7f]+", "the path of a PEM file on the controller")
server = text(r"[A-Za-z0-9.-]+", "a host name or address")
email = text(r"[^\s@]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", "an e-mail address")
acme_directory = text(r"https://[^\s\x00-\x1f\x7f]+", "the https address of an ACME directory")
zone = text(r"Z[A-Z0-9]{5,31}", "the id of a hosted zone, such as Z0123456789ABCDEFGHIJ")
html_file = text(r"[^\x00-\x1f\x7f]+", "the path of an HTML file on the controller")
shell = text(r"[^\x00-\x08\x0a-\x1f\x7f]*", "one line for the shell, or an empty string for no command")


def name(report: Report, path: str, value: Any) -> str | None:
    """The name of a service or a database."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,27}[a-z0-9])?", value):
        wanted = "1 to 29 lowercase letters, digits and hyphens, starting with a letter"
        report.add(path, value, "this is not a valid name", f"Use {wanted}.")
        return None
    if value in RESERVED_NAMES:
        report.add(path, value, f"'{value}' is a reserved word", "Choose another name.")
        return None
    return value


def node(report: Report, path: str, value: Any) -> str | None:
    """A Node.js version: a major number, or an exact version."""
    wanted = 'a major version such as "24", or an exact version such as "24.21.0", in quotes'
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 100:
        value = str(value)
    if not isinstance(value, str):
        refuse_type(report, path, value, "a string", wanted)
        return None
    if not re.fullmatch(r"[1-9]\d?(?:\.\d{1,3}\.\d{1,3})?", value):
        report.add(path, value, "this is not a Node.js version", f"Write {wanted}.")
        return None
    return value


def status(report: Report, path: str, value: Any) -> list[int] | None:
    """One HTTP status, or a list of them."""
    values = value if isinstance(value, list) else [value]
    if not values:
        report.add(path, value, "the list of statuses is empty", "Write at least one, such as [200].")
    checked = [integer(100, 599)(report, path, item) for item in values]
    return [item for item in checked if item is not None]


def texts(report: Report, path: str, value: Any) -> list[str] | None:
    """One text, or a list of them."""
    values = value if isinstance(value, list) else [value]
    for item in values:
        if not isinstance(item, str):
            refuse_type(report, path, item, "a string", "a string, or a list of strings")
            return None
    return values


def template(report: Report, path: str, value: Any) -> str | None:
    """A value that may hold placeholders. Numbers and booleans become text."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int) and abs(value) < 10**18:
        value = str(value)
    elif isinstance(value, float):
        value = repr(value)
    if not isinstance(value, str):
        refuse_type(report, path, value, "a string", "a string")
        return None
    if CONTROL.search(value):
        report.add(path, HIDDEN, "the value has several lines or control characters", "Write it on one line.")
        return None
    try:
        parse(value)
    except PlaceholderError as error:
        report.add(path, value, str(error), "Write ${name}, ${name|url}, or $$ for a dollar sign.")
        return None
    return value


def command(report: Report, path: str, value: Any) -> list[str] | None:
    """A command that runs without a shell, split into words."""
    wanted = "one command without a shell, such as node dist/main.js"
    if not isinstance(value, str):
        refuse_type(report, path, value, "a string", wanted)
        return None
    try:
        words = shlex.split(value)
    except ValueError as error:
        report.add(path, value, f"the command cannot be parsed: {error}", f"Write {wanted}.")
        return None
    if not words or CONTROL.search(value):
        report.add(path, value, "this is not a command", f"Write {wanted}.")
        return None
    if SHELL_WORDS.intersection(words):
        report.add(path, value, "commands run without a shell", f"Write {wanted}; put the rest into a script.")
        return None
    if words[0] in WRAPPERS:
        problem = f"'{words[0]}' would run between systemd and the process, and hide signals from it"
        report.add(path, value, problem, f"Start the program directly: {wanted}.")
        return None
    if "${" in value:
        fix = "Use an environment variable. If the port must be an argument: sh -c 'exec node a.js --port \"$PORT\"'."
        report.add(path, value, "a command cannot contain placeholders", fix)
        return None
    return words


def schedule(report: Report, path: str, value: Any) -> str | None:
    """When something runs, as systemd writes it. The host's systemd checks the rest, before anything is changed."""
    wanted = '"*-*-* 03:00:00 Asia/Seoul", "Mon..Fri 08:30" or hourly (man systemd.time, Calendar Events)'
    if not isinstance(value, str):
        refuse_type(report, path, value, "a string", wanted)
        return None
    if re.fullmatch(r"\S+(?: \S+){4}|@\w+", value) and ":" not in value:
        report.add(path, value, "this is a line of cron", f"Write {wanted}.")
        return None
    if not re.fullmatch(r"[A-Za-z0-9*~](?:[A-Za-z0-9*/,.:~_+ -]*[A-Za-z0-9*])?", value):
        report.add(path, value, "this is not a calendar event of systemd", f"Write {wanted}.")
        return None
    return value


def hours_between(schedule: str) -> int:
    """Return the most hours between two starts of a schedule, where that is plain to see; 0 where it is not."""
    words = schedule.removeprefix("*-*-* ").split()
    if len(words) == 2 and not words[1][0].isdigit():
        words = words[:1]  # a time zone
    if len(words) != 1:
        return 0
    if words[0] in ("minutely", "hourly", "daily"):
        return 24 if words[0] == "daily" else 1
    hour, colon, _rest = words[0].partition(":")
    if not colon or not re.fullmatch(r"[\d*][\d,/.]*", hour):
        return 0
    if hour == "*":
        return 1
    every = re.fullmatch(r"(?:\*|0?0)/(\d+)", hour)
    return min(24, int(every[1])) if every else 24


def path_below(report: Report, path: str, value: Any) -> str | None:
    """A folder below the source."""
    wanted = "a path below the source folder, such as dist"
    checked: str | None = text(r"[^\x00-\x1f\x7f]+", wanted)(report, path, value)
    if checked is None:
        return None
    if checked.startswith(("/", "~")) or ".." in checked.split("/"):
        report.add(path, value, "this path leaves the source folder", f"Write {wanted}.")
        return None
    return checked.rstrip("/")


def folder_of_code(report: Report, path: str, value: Any) -> str | None:
    """A folder below the code, as a unit of systemd can name it."""
    found = text(
        r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)*/?",
        "a folder of the code such as uploads",
    )
    checked: str | None = found(report, path, value)
    return checked.rstrip("/") if checked else None


def domain(report: Report, path: str, value: Any) -> str | None:
    """A domain of at least two labels."""
    wanted = "a lowercase domain such as example.com, without scheme, port or trailing dot"
    if not isinstance(value, str):
        refuse_type(report, path, value, "a string", wanted)
        return None
    labels = value.split(".")
    if len(value) > 253 or len(labels) < 2 or not all(map(LABEL.fullmatch, labels)) or labels[-1].isdigit():
        report.add(path, value, "this is not a domain", f"Write {wanted}.")
        return None
    return value


def host(report: Report, path: str, value: Any) -> str | None:
    """A public host: one label below the environment's domain, names that end in `@`, the domain, or a full name."""
    wanted = 'a lowercase label such as api, "@" for the domain itself, or "*" for any single label'
    if not isinstance(value, str):
        refuse_type(report, path, value, "a string", wanted)
        return None
    if len(value) < 254 and all(map(LABEL.fullmatch, value.removeprefix("*.").removesuffix(".@").split("."))):
        return value
    if value in ("@", "*", "*.@"):
        return value
    report.add(path, value, "this is not a valid host below the domain", f"Write {wanted}.")
    return None


def csp_sources(report: Report, path: str, value: Any) -> str | None:
    """The sources of one directive of a content security policy."""
    wanted = "sources separated by spaces, such as \"'unsafe-inline' https://js.stripe.com\""
    source = r"(?:(?![;,\"$\\{}])[!-~])+"
    checked: str | None = text(rf"{source}(?: {source})*", wanted)(report, path, value)
    for word in (checked or "").split():
        if CSP_WORDS.fullmatch(word):
            problem = f"without single quotes, browsers read {word} as a host name"
            report.add(path, value, problem, f"Write \"'{word}'\": YAML removes the outer quotes.")
            return None
    return checked


def prefix(report: Report, path: str, value: Any) -> str | None:
    """A public path prefix; a trailing slash is dropped."""
    wanted = "a path such as / or /docs"
    checked: str | None = text(r"/[A-Za-z0-9._~/-]*", wanted)(report, path, value)
    if checked is None:
        return None
    if "//" in checked or ".." in checked.split("/"):
        report.add(path, value, "the path contains '//' or '..'", f"Write {wanted}.")
        return None
    return checked.rstrip("/") or "/"


def address(report: Report, path: str, value: Any) -> str | None:
    """An IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(value if isinstance(value, str) else ""))
    except ValueError:
        report.add(path, value, "this is not an IPv4 address", "Write an address such as 10.0.1.5.")
        return None


def network(report: Report, path: str, value: Any) -> str | None:
    """A network in CIDR notation."""
    try:
        network = ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        report.add(path, value, "this is not a network", "Write CIDR notation, such as 10.0.0.0/16.")
        return None
    if not network.prefixlen:
        report.add(path, value, "this matches every address", "List specific networks, such as 10.0.0.0/16.")
        return None
    return str(network)


# With these begin the names of the passwords that RDS manages, of any database of the account.
MANAGED = ("rds!cluster-", "rds!db-")
SECRET_SOURCES = {
    # With the `!` in the names of MANAGED.
    "secretsmanager": r"[A-Za-z0-9/_+=.@:!-]+",
    "ssm": r"[A-Za-z0-9/_.:-]+",
    "variable": r"[A-Za-z_][A-Za-z0-9_]*",
}


def secret(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A reference to a secret. Its value is never shown: it may be the secret itself."""
    fix = (
        "Write {secretsmanager: name}, {secretsmanager: name, key: key of its JSON}, {ssm: /name} or {variable: name}."
    )
    if not isinstance(value, dict):
        report.add(path, HIDDEN, "this is not a reference to a secret", fix)
        return None
    found = [source for source in SECRET_SOURCES if source in value]
    allowed = {*found, "key"} if found == ["secretsmanager"] else set(found)
    if len(found) != 1 or set(value) - allowed:
        report.add(path, listed(value), "these keys do not form a reference to a secret", fix)
        return None
    source = found[0]
    reference, key = value[source], value.get("key")
    if not isinstance(reference, str) or not re.fullmatch(SECRET_SOURCES[source], reference):
        report.add(f"{path}.{source}", HIDDEN, "this is not a valid secret name", fix)
        return None
    if "key" in value and (not isinstance(key, str) or not key):
        report.add(f"{path}.key", HIDDEN, "this is not a valid key of a JSON secret", fix)
        return None
    if is_managed({source: reference}) and not key:
        problem = "RDS keeps the password of this secret beside the name of the user, in JSON"
        report.add(path, reference, problem, f"Add its key: {{{source}: {reference}, key: password}}.")
        return None
    return {source: reference, "key": key} if key else {source: reference}


def is_managed(reference: Mapping[str, str] | None) -> bool:
    """Whether RDS manages and rotates the secret, which is given by its name or its ARN."""
    return (reference or {}).get("secretsmanager", "").rpartition(":secret:")[2].startswith(MANAGED)


def pem(report: Report, path: str, value: Any) -> str | dict[str, Any] | None:
    """The location of a certificate or key: a file on the controller, or a reference to a secret."""
    if isinstance(value, dict):
        return secret(report, path, value)
    if isinstance(value, str) and "-----BEGIN" in value:
        fix = "Write the path of a PEM file on the controller, or a reference such as {secretsmanager: name}."
        report.add(path, HIDDEN, "this is the certificate or key itself, not its location", fix)
        return None
    checked: str | None = pem_file(report, path, value)
    return checked


def public_key(report: Report, path: str, value: Any) -> str | None:
    """A public key of Ed25519 in base64. A wrong value is not shown: it may be the private key."""
    # What says that it is such a key comes first, and is always the same.
    if not isinstance(value, str) or not re.fullmatch(r"MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=", value):
        fix = "Write the line between the first and the last that `openssl pkey -in signing.pem -pubout` prints."
        report.add(path, HIDDEN, "this is not a public key of Ed25519", fix)
        return None
    return value


def public_keys(report: Report, path: str, value: Any) -> list[str] | None:
    """Public keys, one at least: with an empty list, nobody would have to sign."""
    if value == []:
        fix = "Add the public key, or write `artifact_signing: off` to trust everybody who may write to the store."
        report.add(path, value, "the list of public keys is empty", fix)
        return None
    checked: list[str] | None = items(public_key, "a list of public keys")(report, path, value)
    return checked


def secret_name(report: Report, path: str, value: Any) -> str | None:
    """The name of one of the environment's secrets. A wrong one is not shown: it may be the secret itself."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        return value
    report.add(path, HIDDEN, "this is not a valid secret name", "Write a key of platform_environment.secrets.")
    return None


# Of these no browser sends an origin, or everybody may have one.
NO_APP = "(?!(?:https?|wss?|ftp|file|data|blob|about|javascript)://)"
APP_ORIGIN = re.compile(NO_APP + r"[a-z][a-z0-9+.-]*://[a-z0-9-]+(?:\.[a-z0-9-]+)*")


def origin(report: Report, path: str, value: Any) -> str | None:
    """An origin: of a page, exact or with a wildcard for one label, or of an app (capacitor://localhost).

    Whether http is allowed is checked elsewhere.
    """
    if isinstance(value, str) and APP_ORIGIN.fullmatch(value):
        return value
    fix = (
        "Write an origin such as https://app.example.com, https://*.example.com or capacitor://localhost, "
        "in lowercase, without path or trailing slash."
    )
    match = re.fullmatch(r"(https?)://(\*\.)?([a-z0-9.-]+)(?::(\d{1,5}))?", value) if isinstance(value, str) else None
    if not match or not all(map(LABEL.fullmatch, match.group(3).split("."))):
        report.add(path, value, "this is not an origin", fix)
        return None
    if match.group(2) and "." not in match.group(3):
        report.add(path, value, "this wildcard covers a whole top-level domain", fix)
        return None
    usual = {"http": 80, "https": 443}[match.group(1)]
    if match.group(4) and (not 1 <= int(match.group(4)) <= 65535 or int(match.group(4)) == usual):
        problem = "browsers never send this port in an origin"
        report.add(path, value, problem, "Omit the scheme's default port, or write 1 to 65535.")
        return None
    return str(value)


def size_in_bytes(size: str) -> int:
    """Return a size such as 512M in bytes; units are powers of 1024, as in systemd and nginx."""
    number = size.rstrip("KMGTkmg")
    return int(number) << (10 * (1 + "KMGT".index(size[-1].upper())) if number != size else 0)
