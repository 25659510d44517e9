"""A stand-in for ComfyUI on loopback that makes real images at once, and can misbehave anywhere.

It plans with the plan of the posted graph, so that without a trick a run against it is complete.
"""

import base64
import contextlib
import hashlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from client.workflow.graph import parse_workflow
from client.workflow.roles import BATCHER, SAVER
from comfy_nodes.labelset import ImageRecord, encode_image, image_file_name, sha256


class StandIn:
    """`tricks` maps a path to a function of the request handler that answers in its own way.

    `change` may alter a record (a dict) and the bytes of its image before they are offered;
    `locate` its location, `finish` the history entry. `asked` lists (method, path with query,
    headers) of every request.
    """

    def __init__(self, object_info, *, certificate=None, authorization=None):
        self.object_info = object_info
        self.authorization = authorization
        self.tricks = {}
        self.change = lambda record, data: (record, data)
        self.locate = lambda name: {"filename": name, "subfolder": "", "type": "output"}
        self.finish = lambda entry: entry
        self.stats = {"system": {"comfyui_version": "0.8.0"}, "devices": []}
        self.asked = []
        self.history = {}
        self.files = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(stand_in):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = urlsplit(self.path).path
                stand_in.asked.append((self.command, self.path, dict(self.headers)))
                with contextlib.suppress(OSError):
                    if stand_in.authorization not in (None, self.headers.get("Authorization")):
                        answer(self, b"<html>who are you?</html>", status=401, kind="text/html")
                    elif path in stand_in.tricks:
                        stand_in.tricks[path](self)
                    else:
                        stand_in.answer(self, path, body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, handler, path, body):
        """What an honest server says."""
        if path == "/prompt":
            self._make(json.loads(body))
            answer_json(
                handler,
                {"prompt_id": json.loads(body)["prompt_id"], "number": 1, "node_errors": {}},
            )
        elif path == "/view":
            (name,) = parse_qs(urlsplit(handler.path).query)["filename"]
            answer(handler, self.files[name], kind="image/png")
        elif path.startswith("/history/"):
            prompt_id = path.rpartition("/")[2]
            answer_json(
                handler, {prompt_id: self.history[prompt_id]} if prompt_id in self.history else {}
            )
        elif path == "/ws":
            websocket_upgrade(handler)
            handler.rfile.read(1)
        else:
            values = {"/object_info": self.object_info, "/system_stats": self.stats}
            answer_json(handler, values.get(path, {"queue_running": [], "queue_pending": []}))

    def _make(self, body):
        workflow = parse_workflow(body["prompt"])
        plan, size = workflow.plan(), workflow.batch_size
        inputs = body["prompt"][workflow.only_id_of(BATCHER)]["inputs"]
        only = [int(each) for each in inputs["only"].split(",") if each]
        start = inputs["batch_index"] * size
        records, images = [], []
        for index in only or range(start, min(start + size, len(plan))):
            row = plan.row(index)
            name = image_file_name(row.label, plan.plan_id, index)
            record = ImageRecord(
                name, row.label, row.prompt, row.negative_prompt, row.seed, index,
                plan.plan_id, row.template,
                row.context, row.style,
            )  # fmt: skip
            data = encode_image(Image.new("RGB", (8, 8), (index, 0, 0)), record)
            values, data = self.change({**vars(record), "sha256": sha256(data)}, data)
            place = self.locate(name)
            self.files[place["filename"]] = data
            records.append(values)
            images.append(place)
        output = {workflow.only_id_of(SAVER): {"synthgrid_records": records, "images": images}}
        status = {
            "status_str": "success",
            "completed": True,
            "messages": [["execution_success", {}]],
        }
        self.history[body["prompt_id"]] = self.finish({"outputs": output, "status": status})


def answer(handler, body, *, status=200, kind="application/json", length=None, **headers):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def answer_json(handler, value):
    answer(handler, json.dumps(value).encode())


def endless(handler, piece=b"x" * 65536, kind="application/json"):
    """A body that never ends; the handler's thread ends with the connection."""
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.end_headers()
    while True:
        handler.wfile.write(piece)


def websocket_upgrade(handler):
    magic = handler.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(magic).digest()).decode()
    handler.wfile.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )
