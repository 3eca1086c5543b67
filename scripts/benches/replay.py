"""A bare server of the same answers: what a node said, recorded once and sent again from memory."""

import socket
import threading
import urllib.parse

# Headers of a request that decide its answer.
DECIDING = (b"range", b"if-none-match")


class Listener:
    """A server on a free port, a thread a connection."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            stream = client.makefile("rb")
            try:
                while request := read_head(stream):
                    body = stream.read(length_of(request[1]) or 0)
                    client.sendall(self.answer(request, body))
            except OSError:
                return

    def stop(self):
        self.socket.close()


class Recorder(Listener):
    """Passes requests on to a node and remembers its answers."""

    def __init__(self, node):
        self.node = urllib.parse.urlsplit(node)
        self.answers = {}
        super().__init__()

    def answer(self, request, body):
        line, headers = request
        with socket.create_connection((self.node.hostname, self.node.port)) as upstream:
            # The answers name the host that was asked; a recording is sent from another port, which no client minds.
            upstream.sendall(line + b"".join(headers) + b"\r\n" + body)
            stream = upstream.makefile("rb")
            status, answered = read_head(stream)
            method = line.split()[0]
            bodiless = method == b"HEAD" or status.split()[1] in (b"204", b"304")
            length = length_of(answered)
            if length is None and not bodiless:
                raise SystemExit(f"bench: an answer without a length cannot be replayed: {line}")
            said = status + b"".join(answered) + b"\r\n" + (b"" if bodiless else stream.read(length))
        self.answers[key_of(line, headers, body)] = said
        return said

    def stop(self):
        super().stop()
        return self.answers


class Replay(Listener):
    """Sends recorded answers."""

    def __init__(self, answers):
        self.answers = answers
        super().__init__()

    def answer(self, request, body):
        line, headers = request
        return self.answers[key_of(line, headers, body)]


def key_of(line, headers, body):
    return line, tuple(h.lower() for h in headers if h.split(b":")[0].lower() in DECIDING), body


def read_head(stream):
    """The first line and the header lines; `None` at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    headers = []
    while (header := stream.readline()) not in (b"\r\n", b"\n", b""):
        headers.append(header)
    return line, headers


def length_of(headers):
    for header in headers:
        name, _, value = header.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None
