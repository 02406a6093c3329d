"""Serve the listing of a bucket of any number of keys, which a function gives by their numbers."""

import threading
import time
from bisect import bisect_left, bisect_right
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote

PAGE = 1000
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>"
    '<ETag>"d41d8cd98f00b204e9800998ecf8427e"</ETag><Size>{}</Size></Contents>'
)


class KeyServer:
    """Answer `list_objects_v2` for one bucket, as S3 does, and nothing else.

    Attributes:
        endpoint: host and port.
        page: the most keys of one answer.
        seconds: the time before each answer.
        pages, probes: the numbers of answers of several keys, and of one key at most.
    """

    def __init__(self, count, key_of, page=PAGE, seconds=0.0):
        """Serve the keys `key_of(0)` to `key_of(count - 1)`, which ascend."""
        self.page, self.seconds = page, seconds
        self.pages = self.probes = 0
        self.set_keys(count, key_of)
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_GET(self):
                asked = parse_qs(self.path.partition("?")[2], keep_blank_values=True)
                body = server.answer({name: values[0] for name, values in asked.items()})
                self.send_response(200)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.endpoint = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def set_keys(self, count, key_of):
        """Serve other keys."""
        self._numbers, self._key_of = range(count), key_of

    def uri(self, prefix=""):
        """Return the address of a prefix of the keys."""
        return f"s3://keys{prefix}?endpoint_override={self.endpoint}&scheme=http"

    def answer(self, asked):
        """Return the XML of one page."""
        time.sleep(self.seconds)
        wanted = min(self.page, int(asked.get("max-keys", PAGE)))
        with self._lock:
            self.pages += wanted > 1
            self.probes += wanted == 1
        prefix = asked.get("prefix", "")
        after = asked.get("start-after")
        if "continuation-token" in asked:
            after = bytes.fromhex(asked["continuation-token"]).decode()
        start = bisect_left(self._numbers, prefix, key=self._key_of)
        if after is not None:
            start = max(start, bisect_right(self._numbers, after, key=self._key_of))
        keys = [self._key_of(number) for number in self._numbers[start : start + wanted + 1]]
        keys = [key for key in keys if key.startswith(prefix)]
        entries = "".join(
            ENTRY.format(quote(key), number + 1)
            for number, key in enumerate(keys[:wanted], start=start)
        )
        more = "<IsTruncated>false</IsTruncated>"
        if len(keys) > wanted:  # the token is the last key, in letters that XML does not change
            token = keys[wanted - 1].encode().hex()
            more = "<IsTruncated>true</IsTruncated>"
            more += f"<NextContinuationToken>{token}</NextContinuationToken>"
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult '
            'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
            f"{more}{entries}</ListBucketResult>"
        ).encode()
