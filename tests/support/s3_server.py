"""Connect to an S3 server through a proxy that fails as networks and stores do."""

import http.client
import json
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from reidray.storage.location import Location
from reidray.storage.object_store import call_s3
from reidray.storage.paths import key_of

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
NOT_ASKED = {"connection", "transfer-encoding", "content-length", "expect"}
NOT_FORWARDED = {"connection", "transfer-encoding", "content-length", "server", "date"}


class UnreliableStore:
    """Forward requests to an S3 server, and slow down, refuse or cut off some of them.

    Attributes:
        slow, busy, cut: the shares of the requests that meet this; of reading, for `cut`.
        denied: ends of the keys that nobody may have.
        denied_calls: parameters of the calls that nobody may make, such as `versions`.
        lost: ends of the keys of which every other write is carried out and its answer lost.
        left: after so many requests all are refused; None refuses none.
        met: how many requests met something.
    """

    def __init__(self, host, port):
        self._behind = (host, port)
        self.slow = self.busy = self.cut = 0.0
        self.denied = self.denied_calls = self.lost = ()
        self.left = None
        self.met = {"slow": 0, "busy": 0, "cut": 0, "lost": 0}
        self._lost_before = set()
        self._draws = random.Random(0)
        self._lock = threading.Lock()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def _answer(self):
                store.answer(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _meets(self, trouble):
        with self._lock:
            met = self._draws.random() < getattr(self, trouble)
            self.met[trouble] += met
        return met

    def answer(self, request):
        body = receive(request)
        if self._meets("slow"):
            time.sleep(0.5)
        if self._meets("busy"):
            send(request, 503, [("Content-Type", "application/xml")], BUSY)
            return
        asked = parse_qs(request.path.partition("?")[2], keep_blank_values=True)
        denied = request.path.endswith(tuple(self.denied)) or asked.keys() & set(self.denied_calls)
        if denied or self._is_over():
            send(request, 403, [("Content-Type", "application/xml")], DENIED)
            return
        behind = http.client.HTTPConnection(*self._behind, timeout=30)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in NOT_ASKED}
        behind.request(request.command, request.path, body, headers)
        answer = behind.getresponse()
        data = answer.read()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in NOT_FORWARDED]
        length = int(answer.headers.get("Content-Length", len(data)))
        if self._loses_answer(request):
            behind.close()
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        is_read = request.command == "GET" and answer.status < 300 and len(data) > 100
        if is_read and self._meets("cut"):
            send(request, answer.status, kept, data[: len(data) // 2], len(data))
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
        else:
            send(request, answer.status, kept, data, length)
        behind.close()

    def _is_over(self):
        with self._lock:
            if self.left is not None:
                self.left -= 1
            return self.left is not None and self.left < 0

    def _loses_answer(self, request):
        path = request.path.partition("?")[0]
        if request.command != "PUT" or not path.endswith(tuple(self.lost)):
            return False
        with self._lock:
            is_lost = path not in self._lost_before
            self._lost_before ^= {path}
            self.met["lost"] += is_lost
        return is_lost


def receive(request):
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    chunks = []
    while length := int(request.rfile.readline(), 16):
        chunks.append(request.rfile.read(length))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(chunks)


def send(request, status, headers, data, length=None):
    request.send_response(status)
    for name, value in headers:
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(data) if length is None else length))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)
        request.wfile.flush()


def latest_run(uri):
    """Return the run that `latest.json` of an output names."""
    location = Location(uri)
    return location.join(json.loads(location.read_bytes("latest.json"))["run"])


def all_objects(uri):
    """Return all keys under an address, hidden ones too, with their contents."""
    prefix = key_of(uri) + "/"
    listed = call_s3(uri, "list_objects_v2", Prefix=prefix).get("Contents", [])
    keys = [entry["Key"].removeprefix(prefix) for entry in listed]
    return {key: Location(uri).read_bytes(key) for key in keys if key}
