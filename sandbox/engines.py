"""What the sandbox runs in place of RDS and ElastiCache, by the engine's name. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import NamedTuple


class Engine(NamedTuple):
    """A server of Debian that stands in for one engine of RDS or ElastiCache.

    rds: its name there.
    package: what is installed. data: what the installation leaves of a server that nobody wants.
    script: the file below files/ that runs it.
    accounts: (databases, user, password, network) -> the statements that create the application's account with its
    databases, run at each start; each statement on its line. The account may come from that network only.
    connections: the command that prints how many connections are open, besides its own.
    greets: whether the server speaks first on a new connection.
    stop: the signal that ends the server while clients are connected.
    """

    rds: str
    port: int
    package: str
    data: str
    script: str
    accounts: Callable[[Sequence[str], str, str, IPv4Network], str]
    connections: tuple[str, ...]
    greets: bool = False
    stop: str = "SIGTERM"


def mariadb_accounts(names: Sequence[str], user: str, password: str, network: IPv4Network) -> str:
    """The statements for MariaDB."""
    account = f"'{user}'@'{network.network_address}/{network.netmask}'"
    literal = password.replace("\\", "\\\\").replace("'", "\\'")
    statements = [
        f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{literal}';",
        f"ALTER USER {account} IDENTIFIED BY '{literal}';",
    ]
    for name in names:
        statements.append(f"CREATE DATABASE IF NOT EXISTS `{name}`;")
        statements.append(f"GRANT ALL PRIVILEGES ON `{name}`.* TO {account};")
    return "\n".join(statements) + "\n"


def postgresql_accounts(names: Sequence[str], user: str, password: str, network: IPv4Network) -> str:
    """The statements for psql. Which network an account may come from, the server's own list says."""
    literal = password.replace("'", "''")
    statements = [
        "SET standard_conforming_strings = on;",
        f"SELECT 'CREATE ROLE \"{user}\"' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{user}') \\gexec",  # noqa: S608
        f"ALTER ROLE \"{user}\" LOGIN PASSWORD '{literal}';",
    ]
    statements += [
        f'SELECT \'CREATE DATABASE "{name}" OWNER "{user}"\' '  # noqa: S608
        f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec"
        for name in names
    ]
    return "\n".join(statements) + "\n"


def redis_accounts(names: Sequence[str], user: str, password: str, network: IPv4Network) -> str:
    """The lines of a configuration: a store has no databases with names, and the user is the default one."""
    return f"requirepass {json.dumps(password)}\n"


REDIS = Engine(
    rds="redis",
    port=6379,
    package="redis-server",
    data="/var/lib/redis/*",
    script="redis.sh",
    accounts=redis_accounts,
    connections=(),
)

# In the order of the catalogue's engines: the first of those that a sandbox has is its `database`.
ENGINES = {
    "mysql": Engine(
        rds="mysql",
        port=3306,
        package="mariadb-server",
        data="/var/lib/mysql",
        script="mysql.sh",
        accounts=mariadb_accounts,
        connections=(
            "mariadb",
            "--batch",
            "--skip-column-names",
            "--execute",
            "SELECT CAST(VARIABLE_VALUE AS INTEGER) - 1 FROM information_schema.GLOBAL_STATUS "
            "WHERE VARIABLE_NAME = 'THREADS_CONNECTED'",
        ),
        greets=True,
    ),
    "postgresql": Engine(
        rds="postgres",
        port=5432,
        package="postgresql",
        data="/var/lib/postgresql/*",
        script="postgresql.sh",
        accounts=postgresql_accounts,
        connections=(
            "runuser",
            "--user=postgres",
            "--",
            "psql",
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--command",
            "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'",
        ),
        # Otherwise it waits for its clients to leave.
        stop="SIGINT",
    ),
    # Debian 12 has no Valkey; its protocol is that of Redis.
    "valkey": REDIS,
    "redis": REDIS,
}
DEFAULT = "mysql"
# The engine of an entry that names none, by the catalogue's section.
DEFAULTS = {"databases": DEFAULT, "stores": "valkey"}
# Of the application's database, and of its account.
NAME = USER = "app"
# What each server allows.
MAX_CONNECTIONS = 150


def parts(servers: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The containers of a sandbox whose catalogue has these databases and stores, each with its engine.

    There is always a `database`.

    :param servers: the engine of each, by section and name.
    """
    asked = {engine for section in servers.values() for engine in section.values()}
    wanted = [name for name in ENGINES if name in asked] or [DEFAULT]
    return {"database" if number == 0 else name: name for number, name in enumerate(wanted)}


def schemas(databases: Mapping[str, str]) -> dict[str, str]:
    """The name that each of the catalogue's databases has in its server: the first of an engine `app`."""
    first = {engine: name for name, engine in reversed(databases.items())}
    return {name: NAME if first[engine] == name else name for name, engine in databases.items()}
