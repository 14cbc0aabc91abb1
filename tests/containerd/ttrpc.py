"""As much of ttrpc and protobuf as a test needs to speak to a shim as containerd does."""

import socket
import struct
import threading

REQUEST, RESPONSE = 1, 2


def varint(number):
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def message(fields):
    """{number: value or [values]} -> bytes; an int, str, bytes, or dict (a message) each. Zero and empty values are left out, as proto3 has it."""
    encoded = b""
    for number, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, (bool, int)):
                encoded += varint(number << 3) + varint(int(value)) if value else b""
                continue
            data = message(value) if isinstance(value, dict) else value.encode() if isinstance(value, str) else value
            if data or isinstance(value, dict):
                encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return encoded


def parse(data):
    """bytes -> {number: [int or bytes]}."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            value = number()
        elif tag & 7 == 2:
            size = number()
            value, at = data[at:at + size], at + size
        else:
            raise ValueError(f"wire type {tag & 7}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def text(fields, number):
    return fields.get(number, [b""])[0].decode()


class TtrpcError(Exception):
    def __init__(self, code, words):
        super().__init__(f"{words} (status {code})")
        self.code = code


class Client:
    """Calls of one connection; a call blocks its own thread only."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.lock, self.answers, self.arrived = threading.Lock(), {}, threading.Condition()
        self.stream, self.closed = -1, False
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def _read(self):
        try:
            while True:
                size, stream, kind, _ = struct.unpack(">IIBB", self._exactly(10))
                payload = self._exactly(size)
                with self.arrived:
                    if kind == RESPONSE:
                        self.answers[stream] = payload
                    self.arrived.notify_all()
        except (EOFError, OSError):
            with self.arrived:
                self.closed = True
                self.arrived.notify_all()

    def call(self, service, method, fields, deadline=60):
        with self.lock:
            self.stream += 2
            stream = self.stream
            payload = message({1: service, 2: method, 3: message(fields), 4: int(deadline * 1e9)})
            self.socket.sendall(struct.pack(">IIBB", len(payload), stream, REQUEST, 0) + payload)
        with self.arrived:
            assert self.arrived.wait_for(lambda: stream in self.answers or self.closed, deadline), f"no answer to {method} within {deadline} s"
            if stream not in self.answers:
                raise EOFError(f"the shim has closed the connection under {method}")
            answer = parse(self.answers.pop(stream))
        status = parse(answer[1][0]) if 1 in answer else {}
        if status.get(1, [0])[0] != 0:
            raise TtrpcError(status[1][0], text(status, 2))
        return parse(answer.get(2, [b""])[0])
