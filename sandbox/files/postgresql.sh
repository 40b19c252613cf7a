#!/bin/sh
# Runs PostgreSQL in a database's container. Accounts come from /etc/sandbox/init at each start.
set -eu
data=/var/lib/postgresql/data
run=/run/postgresql
bin=$(echo /usr/lib/postgresql/*/bin)
install -d -o postgres -g postgres "$run"
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

# Made beside its place and moved: an interrupted start never leaves half a database.
if [ ! -d "$data" ]; then
  rm -rf "$data.new"
  install -d -o postgres -g postgres -m 0700 "$data.new"
  as "$bin/initdb" --pgdata="$data.new" --encoding=UTF8 --locale=C.UTF-8 --auth=peer >/dev/null
  sync
  mv "$data.new" "$data"
fi

install -o postgres -g postgres -m 0400 /etc/sandbox/init "$run/init"
for part in ca certificate key; do
  install -o postgres -g postgres -m 0400 "/etc/sandbox/$part.pem" "$run/$part.pem"
done
# Applications come from the sandbox's network only.
printf 'local all all peer\nhost all all samenet scram-sha-256\n' >"$run/hba.conf"

# Nobody can connect before the accounts are there.
as "$bin/pg_ctl" start --wait --silent --pgdata="$data" --options="-c listen_addresses='' -c unix_socket_directories=$run"
as "$bin/psql" --host="$run" --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --file="$run/init"
as "$bin/pg_ctl" stop --wait --silent --pgdata="$data"

# What RDS tells CloudWatch of a database, a stand-in tells.
PYTHONPATH=/opt python3 -m sandbox.rds_metrics "$AWS_ENDPOINT_URL" "$AWS_REGION" postgresql &

exec setpriv --reuid=postgres --regid=postgres --init-groups "$bin/postgres" -D "$data" \
  -c listen_addresses='*' -c unix_socket_directories="$run" -c hba_file="$run/hba.conf" \
  -c max_connections="$MAX_CONNECTIONS" -c ssl=on -c ssl_ca_file="$run/ca.pem" \
  -c ssl_cert_file="$run/certificate.pem" -c ssl_key_file="$run/key.pem"
