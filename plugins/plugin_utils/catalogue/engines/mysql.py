# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""MySQL."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines.engine import (
    BARE,
    Driver,
    Engine,
)

ENGINE = Engine(
    name="mysql",
    title="MySQL",
    port=3306,
    scheme="mysql",
    drivers={
        # In JSON: {"rejectUnauthorized":true,"verifyIdentity":true}
        "mysql2": Driver("ssl=%7B%22rejectUnauthorized%22%3Atrue%2C%22verifyIdentity%22%3Atrue%7D", node=True),
        "mariadb": Driver("ssl=true", node=True),
        "prisma": Driver("sslaccept=strict&sslcert={ca}"),
        **BARE,
    },
    rds="mysql",
    version="8.4",
    family_parts=2,
    master="admin",
    logs=("error", "slowquery"),
    # Slow statements go to the log that RDS exports to CloudWatch.
    parameters={
        "require_secure_transport": "1",
        "slow_query_log": "1",
        "long_query_time": "1",
        "log_output": "FILE",
    },
    tls_parameter="require_secure_transport",
    tls_values=("1", "ON"),
    max_connections_query="select @@max_connections",
    schema_query="""
select table_name t, concat_ws(' ', column_name, column_type, is_nullable, column_default, extra, collation_name) d
  from information_schema.columns where table_schema = database()
union all select table_name, concat_ws(' ', index_name, seq_in_index, column_name, non_unique)
  from information_schema.statistics where table_schema = database()
union all select table_name, concat_ws(' ', constraint_name, constraint_type)
  from information_schema.table_constraints where table_schema = database()
""".strip(),
    bytes_per_connection=12582880,
    client=("mysql --host=127.0.0.1 --port={port} --user={user} --password \\", "  --ssl-mode=REQUIRED {schema}"),
)
