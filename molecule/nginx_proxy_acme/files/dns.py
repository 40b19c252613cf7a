"""Answers DNS questions for TXT records with what the hosted zones of a Route 53 API hold at that moment."""

import socketserver
import struct
import sys

import boto3

ROUTE53 = boto3.client(
    "route53", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
)
TXT = 16


def texts(name: str) -> list[str]:
    """Return the values of a name's TXT records."""
    return [
        value["Value"].strip('"')
        for zone in ROUTE53.list_hosted_zones()["HostedZones"]
        for record in ROUTE53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
        if record["Type"] == "TXT" and record["Name"].rstrip(".").lower() == name.lower()
        for value in record["ResourceRecords"]
    ]


class Handler(socketserver.DatagramRequestHandler):
    """Answers each datagram, which holds one question."""

    def handle(self) -> None:
        """Answer it; what is no question for TXT records has no answer."""
        message = self.rfile.read()
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1 : at + 1 + message[at]].decode())
            at += 1 + message[at]
        kind = struct.unpack_from("!H", message, at + 1)[0]
        values = texts(".".join(labels)) if kind == TXT else []
        self.wfile.write(message[:2] + struct.pack("!HHHHH", 0x8580, 1, len(values), 0, 0) + message[12 : at + 5])
        for value in values:
            data = bytes([len(value)]) + value.encode()
            self.wfile.write(b"\xc0\x0c" + struct.pack("!HHIH", TXT, 1, 1, len(data)) + data)


socketserver.ThreadingUDPServer(("127.0.0.1", 8053), Handler).serve_forever()
