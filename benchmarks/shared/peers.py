"""Other programs that hand one message out to many: their start, and plain clients for them. See posts.py.

Each client counts the messages that have come, and acknowledges them if its protocol does so (MQTT with QoS 1).
"""

import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.processes import HOST, main_thread_seconds

ROOM = "all"
START = 10.0
SETTLE = 0.5
GIVE_UP = 120.0
SBIN = "/usr/sbin"
"""Where Debian puts servers; not all users have it in their PATH."""

NGIRCD = """\
[Global]
Name = irc.example.net
Info = benchmark
Listen = {host}
Ports = {port}
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
PingTimeout = 3600
[Options]
DNS = no
Ident = no
PAM = no
IncludeDir = {folder}
"""
MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
max_queued_messages 0
"""
AMQTT = """\
listeners:
  default:
    type: tcp
    bind: {host}:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


class IrcClient:
    """One member of the room, without acknowledgements."""

    def __init__(self, port, number):
        self.socket = socket.create_connection((HOST, port))
        self.socket.sendall(f"NICK n{number}\r\nUSER n{number} 0 * :n\r\nJOIN #{ROOM}\r\n".encode())
        self.came = 0

    def receive(self):
        self.came += self.socket.recv(65536).count(b"\n")

    def post(self, text):
        self.socket.sendall(f"PRIVMSG #{ROOM} :{text}\r\n".encode())


class MqttClient:
    """One subscriber, or the publisher, which gets its own messages, too."""

    def __init__(self, port, number):
        self.socket = socket.create_connection((HOST, port))
        self._rest = b""
        self._id = 0
        self.came = 0
        name = _string(f"n{number}")
        self._send(0x10, _string("MQTT") + b"\x04\x02\x00\x00" + name)
        self._send(0x82, b"\x00\x01" + _string(ROOM) + b"\x01")

    def receive(self):
        data = self._rest + self.socket.recv(65536)
        acks = []
        while packet := _split(data):
            kind, body, data = packet
            if kind >> 4 == 3:  # PUBLISH; with QoS 1 its id is after the topic
                topic = 2 + struct.unpack(">H", body[:2])[0]
                acks.append(b"\x40\x02" + body[topic : topic + 2])
        self._rest = data
        self.came += len(acks)
        if acks:
            self.socket.sendall(b"".join(acks))

    def post(self, text):
        self._id = self._id % 65535 + 1
        self._send(0x32, _string(ROOM) + struct.pack(">H", self._id) + text.encode())

    def _send(self, kind, body):
        self.socket.sendall(bytes((kind,)) + _length(len(body)) + body)


def _string(text):
    return struct.pack(">H", len(text)) + text.encode()


def _length(length):
    """MQTT's: seven bits in a byte."""
    return bytes((length,)) if length < 128 else bytes((length % 128 | 128,)) + _length(length // 128)


def _split(data):
    """Kind and body of the first packet, and what follows; None if it is not complete."""
    length = 0
    for place in range(1, min(len(data), 5)):
        length |= (data[place] & 127) << 7 * (place - 1)
        if data[place] < 128:
            end = place + 1 + length
            return (data[0], data[place + 1 : end], data[end:]) if end <= len(data) else None
    return None


PEERS = {
    "ngircd, no acknowledgements": ("ngircd", ["-n", "-f"], NGIRCD, IrcClient),
    "mosquitto, QoS 1": ("mosquitto", ["-c"], MOSQUITTO, MqttClient),
    "amqtt, QoS 1": ("amqtt", ["-c"], AMQTT, MqttClient),
}
"""Program, options before its configuration, the configuration, and the class of its clients."""


def find_peer(program):
    """The path of the program, perhaps in the environment of this Python; None if it is not installed."""
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent), SBIN]))


def peer_costs(what, members, text, loads):
    """Seconds of CPU time of a peer for a delivery, for each load: how many posts, and how many of them in flight.

    That of its main thread, which does all of the work in each of them.
    """
    _, _, _, client = PEERS[what]
    with _running(what) as (pid, port):
        clients = [client(port, number) for number in range(members)]
        sender, receivers = client(port, members), {one.socket.fileno(): one for one in clients}
        ready = select.epoll()
        for number in (*receivers, sender.socket.fileno()):
            ready.register(number, select.EPOLLIN)
        receivers[sender.socket.fileno()] = sender
        while events := ready.poll(SETTLE):
            for number, _ in events:
                receivers[number].receive()
        costs = []
        for posts, in_flight in loads:
            before = main_thread_seconds(pid)
            _hand_out(ready, receivers, clients, sender, text, posts, in_flight)
            costs.append((main_thread_seconds(pid) - before) / (posts * members))
        for one in receivers.values():
            one.socket.close()
    return costs


def _hand_out(ready, receivers, clients, sender, text, posts, in_flight):
    for one in clients:
        one.came = 0
    posted, give_up = 0, time.monotonic() + GIVE_UP
    while (came := sum(one.came for one in clients)) < posts * len(clients):
        while posted < posts and posted < came // len(clients) + in_flight:
            sender.post(text)
            posted += 1
        for number, _ in ready.poll(1.0):
            receivers[number].receive()
        if time.monotonic() > give_up:
            raise SystemExit(f"after {GIVE_UP} s, a peer has delivered {came} of {posts * len(clients)} messages")


@contextmanager
def _running(what):
    program, options, configuration, _ = PEERS[what]
    with TemporaryDirectory() as folder, socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
        free.close()
        path = Path(folder) / "configuration"
        empty = Path(folder) / "empty"
        empty.mkdir()
        path.write_text(configuration.format(host=HOST, port=port, folder=empty), encoding="utf-8")
        os.chmod(folder, 0o755)  # noqa: S103 - a server that gives up root reads it as somebody else
        command = [find_peer(program), *options, str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
            try:
                _wait_for(port)
                yield process.pid, port
            finally:
                process.kill()


def _wait_for(port):
    give_up = time.monotonic() + START
    while time.monotonic() < give_up:
        with suppress(ConnectionRefusedError):
            socket.create_connection((HOST, port)).close()
            return
        time.sleep(0.05)
    raise SystemExit("a peer does not listen")
