"""A proxy on loopback in front of a server, which can do all that can go wrong on a network.

    proxy = FaultProxy("http://127.0.0.1:8188")
    proxy.fault = lambda method, path, number: "lose answer" if number == 0 else None
    proxy.down(); proxy.up()

`number` counts the requests with this method and path, from 0. Faults of a request:

    lose request   the connection closes before the server hears of it
    lose answer    the server hears of it, the client does not hear back
    cut            half of the body
    corrupt        a byte of the body is another one
    delay          0.15 s late
    hang           no answer for `hang_s`, then the connection closes; the server hears of it
    drip           one header each 0.05 s, for at most `hang_s`; the server hears of it
    duplicate      the server gets the request twice
    error          an HTML page with status 500; the server does not hear of it
    mute           /ws only: the socket opens and then nothing comes
"""

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("lose request", "lose answer", "cut", "corrupt", "delay", "hang", "duplicate", "error")


class FaultProxy:
    """`passed` lists the (method, path) that reached the server, `graphs` the posted graphs."""

    def __init__(self, target, *, web_socket=False, hang_s=1.0):
        self.target = target
        self.fault = lambda method, path, number: None
        self.passed = []
        self.graphs = []
        self.hang_s = hang_s
        self._address = ("127.0.0.1", int(target.rpartition(":")[2]))
        self._web_socket = web_socket
        self._counts = Counter()
        self._open = set()
        self._lock = threading.Lock()
        self._server = None
        self._port = 0
        self._frozen = threading.Event()
        self.up()
        self.url = f"http://127.0.0.1:{self._port}"

    def count(self, method, prefix):
        """How many requests of this kind reached the server."""
        return sum(m == method and path.startswith(prefix) for m, path in self.passed)

    def up(self):
        """Listens, at the same port as before."""
        if self._server is None:
            self._server = _Server(("127.0.0.1", self._port), self._handler())
            self._port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self):
        """Closes the port and every connection: nobody is there."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self._hang_up()

    stop = down

    def restart(self):
        """A restart of the server: it is gone for a moment, and has forgotten queue and history."""
        self.down()
        self._forget()
        self.up()

    def freeze(self):
        """Connections are taken, and nothing is answered until `thaw`."""
        self._frozen.set()

    def thaw(self):
        """Goes on."""
        self._frozen.clear()

    def _forget(self):
        queue = json.loads(self._ask("GET", "/queue"))
        ids = [row[1] for rows in queue.values() for row in rows]
        self._ask("POST", "/queue", {"delete": ids})
        for prompt_id in ids:
            self._ask("POST", "/interrupt", {"prompt_id": prompt_id})
        while any(row[1] in ids for row in json.loads(self._ask("GET", "/queue"))["queue_running"]):
            time.sleep(0.005)
        self._ask("POST", "/history", {"clear": True})

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        with contextlib.closing(connection):
            return connection.getresponse().read()

    def _hang_up(self):
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _handler(proxy):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with proxy._lock:
                    proxy._open.add(self.connection)
                try:
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        proxy._pass_on(self)
                finally:
                    with proxy._lock:
                        proxy._open.discard(self.connection)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        return Handler

    def _pass_on(self, handler):
        path = handler.path.partition("?")[0]
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            number = self._counts[handler.command, path]
            self._counts[handler.command, path] += 1
        while self._frozen.is_set():
            time.sleep(0.01)
        fault = self.fault(handler.command, path, number)
        if path == "/ws":
            return self._socket(handler, fault)
        if fault == "lose request":
            return None
        if fault == "error":
            return _answer(handler, 500, b"<html><body>Internal Server Error</body></html>")
        if fault == "delay":
            time.sleep(0.15)
        status, data = self._upstream(handler, path, body)
        if fault == "duplicate":
            status, data = self._upstream(handler, path, body)
        if fault == "hang":
            time.sleep(self.hang_s)
        if fault == "drip":
            return _drip(handler, self.hang_s)
        if fault in ("lose answer", "hang"):
            return None
        if fault == "corrupt" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        return _answer(handler, status, data, cut=fault == "cut")

    def _upstream(self, handler, path, body):
        self.passed.append((handler.command, path))
        if path == "/prompt":
            self.graphs.append(json.loads(body)["prompt"])
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        with contextlib.closing(connection):
            connection.request(
                handler.command, handler.path, body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _socket(self, handler, fault):
        if not self._web_socket or fault in ("lose request", "error"):
            handler.send_error(404)
            return
        headers = "".join(f"{name}: {value}\r\n" for name, value in handler.headers.items())
        with socket.create_connection(self._address) as upstream:
            upstream.sendall(f"GET {handler.path} HTTP/1.1\r\n{headers}\r\n".encode())
            with self._lock:
                self._open.add(upstream)
            back = threading.Thread(target=_pump, args=(handler.connection, upstream), daemon=True)
            back.start()
            _pump(upstream, handler.connection, mute=fault == "mute")
            back.join()
            with self._lock:
                self._open.discard(upstream)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 50

    def handle_error(self, request, client_address):
        pass


def _answer(handler, status, data, *, cut=False):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2] if cut else data)


def _drip(handler, most_s):
    """Sends the head of an answer, header by header."""
    end = time.monotonic() + most_s
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    while time.monotonic() < end:
        handler.wfile.write(b"X: y\r\n")
        time.sleep(0.05)


def _pump(source, target, *, mute=False):
    """Passes bytes on until one side closes; muted, only the answer to the handshake."""
    with contextlib.suppress(OSError):
        first = True
        while data := source.recv(65536):
            if first or not mute:
                target.sendall(data)
            first = False
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Schedule:
    """Random faults from a seed: some requests go wrong, and proxies go down, restart or freeze.

    Nothing goes wrong before `begin`, and no request after `budget` faults.
    """

    def __init__(self, seed, proxies, *, budget=12, within_s=0.8):
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._left = self._random.randint(0, budget)
        self._share = self._random.choice((0.02, 0.05, 0.15, 0.4))
        self._proxies = proxies
        self._stopped = threading.Event()
        self.log = []
        troubles = ("down", "restart", "freeze")
        draw = self._random
        plan = [
            (draw.uniform(0, within_s), draw.choice(proxies), draw.choice(troubles))
            for _ in range(draw.randint(0, 3))
        ]
        self._thread = threading.Thread(
            target=self._drive, args=(sorted(plan, key=lambda each: each[0]),), daemon=True
        )

    def begin(self):
        """From now on things go wrong."""
        for proxy in self._proxies:
            proxy.fault = self._fault
        self._thread.start()

    def _fault(self, method, path, number):
        with self._lock:
            if self._left <= 0 or self._random.random() > self._share:
                return None
            self._left -= 1
            fault = "mute" if path == "/ws" else self._random.choice(FAULTS)
            self.log.append((fault, method, path))
            return fault

    def _drive(self, plan):
        begun = time.monotonic()
        for at, proxy, what in plan:
            if self._stopped.wait(max(0.0, begun + at - time.monotonic())):
                return
            self.log.append((what, proxy.url))
            if what == "restart":
                proxy.restart()
            elif what == "down":
                proxy.down()
                self._stopped.wait(self._random.uniform(0.05, 0.4))
                proxy.up()
            else:
                proxy.freeze()
                self._stopped.wait(self._random.uniform(0.1, 0.5))
                proxy.thaw()

    def end(self):
        """No more faults; everything is up."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        for proxy in self._proxies:
            proxy.fault = lambda method, path, number: None
            proxy.thaw()
            proxy.up()
