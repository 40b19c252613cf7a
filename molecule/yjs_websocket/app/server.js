// A relay without packages: sends every text frame back, and says which process did.
const crypto = require("node:crypto");
const http = require("node:http");

const server = http.createServer((request, response) => response.end("a relay\n"));
server.on("upgrade", (request, socket) => {
  const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = crypto.createHash("sha1").update(key).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.on("data", (frame) => {
    // One short masked text frame at a time is all that the tests send.
    if ((frame[0] & 15) !== 1) return socket.end();
    const length = frame[1] & 127;
    const mask = frame.subarray(2, 6);
    const text = Buffer.from(frame.subarray(6, 6 + length)).map((byte, index) => byte ^ mask[index % 4]);
    const answer = Buffer.from(`${process.pid} ${request.headers.origin} ${text}`);
    socket.write(Buffer.concat([Buffer.from([129, answer.length]), answer]));
  });
  socket.on("error", () => {});
});
server.listen(process.env.PORT, process.env.HOST);
