// Asks a database with the driver of the application. at: {host, port, user, password, database}; tls: {ca}, if known.
module.exports = async (need, at, query, tls) => {
  const driver = need('pg', 'postgres');
  const ask = async (ssl) => {
    if (typeof driver === 'function') {
      const sql = driver({ ...at, ssl, max: 1, connect_timeout: 5 });
      return sql.unsafe(query).finally(() => sql.end());
    }
    const client = new driver.Client({ ...at, ssl, connectionTimeoutMillis: 5000 });
    try {
      await client.connect();
      return (await client.query(query)).rows;
    } finally {
      await client.end();
    }
  };
  return ask(tls ?? false).catch((error) => {
    if (tls || !error.message.includes('no encryption')) throw error;
    return ask(true);
  });
};
