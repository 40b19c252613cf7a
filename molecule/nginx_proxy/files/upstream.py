"""Answers what it was asked, as JSON; /page with HTML; an upgrade to WebSocket with 101."""

import http.server
import json


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        """Tell what arrived."""
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "upgrade")
            self.end_headers()
            self.close_connection = True
            return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body, kind = b"<!doctype html><title>page</title>", "text/html; charset=utf-8"
        if not self.path.startswith("/page"):
            kind = "application/json"
            body = json.dumps({"path": self.path, "headers": list(self.headers.items())}).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_OPTIONS = answer  # noqa: N815


http.server.ThreadingHTTPServer(("127.0.0.1", 3001), Handler).serve_forever()
