// Asks a database with the driver of the application. at: {host, port, user, password, database}; tls: {ca}, if known.
module.exports = async (need, at, query, tls) => {
  const driver = need('mysql2', 'mysql');
  const ask = (ssl) =>
    new Promise((resolve, reject) => {
      const connection = driver.createConnection({ ...at, ssl, connectTimeout: 5000 });
      connection.query(query, (error, rows) => {
        connection.destroy();
        return error ? reject(error) : resolve(rows);
      });
    });
  return ask(tls).catch((error) => {
    if (tls || error.code !== 'ER_SECURE_TRANSPORT_REQUIRED') throw error;
    // Both drivers know the authorities of RDS by this name.
    return ask('Amazon RDS');
  });
};
