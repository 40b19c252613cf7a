"""What the sandbox runs in place of RDS, by the engine's name in the catalogue. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from typing import NamedTuple


class Engine(NamedTuple):
    """A database server of Debian that stands in for one engine of RDS.

    package: what is installed. data: what the installation leaves of a server that nobody wants.
    script: the file below files/ that runs it.
    accounts: (database, user, password, network) -> the statements that create the application's account, run at each
    start; each statement on its line. The account may come from that network only.
    connections: the command that prints how many connections are open, besides its own.
    greets: whether the server speaks first on a new connection.
    """

    port: int
    package: str
    data: str
    script: str
    accounts: Callable[[str, str, str, IPv4Network], str]
    connections: tuple[str, ...]
    greets: bool


def mariadb_accounts(name: str, user: str, password: str, network: IPv4Network) -> str:
    """The statements for MariaDB."""
    account = f"'{user}'@'{network.network_address}/{network.netmask}'"
    literal = password.replace("\\", "\\\\").replace("'", "\\'")
    statements = (
        f"CREATE DATABASE IF NOT EXISTS `{name}`;",
        f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{literal}';",
        f"ALTER USER {account} IDENTIFIED BY '{literal}';",
        f"GRANT ALL PRIVILEGES ON `{name}`.* TO {account};",
    )
    return "\n".join(statements) + "\n"


ENGINES = {
    "mysql": Engine(
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
}
# The one that sandboxes have.
ENGINE = ENGINES["mysql"]
