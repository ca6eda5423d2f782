"""A command in a network of its own, where every address leads back to this machine and every packet is seen.

    unshare --net --mount python own_network.py REPORT COMMAND ...

REPORT gets, as JSON, the names that were `asked` for (DNS), and the addresses outside this machine to which something was sent
(`reached`, TCP and UDP). Needs `ip`, and root or a user namespace (--map-root-user). Nothing leaves the machine: the network has
no interface but `lo`.
"""

import ipaddress
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

_ALL, _TCP, _UDP, _DNS = 0x0003, 6, 17, 53


_FILES = {"/etc/resolv.conf": "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n", "/etc/nsswitch.conf": "hosts: files dns\n"}


def _set_up(folder: Path) -> None:
    # Every address is this machine, so that what is sent arrives and is seen. A kernel without IPv6 needs no route for it.
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"], check=True)
    subprocess.run(["ip", "-6", "route", "add", "local", "::/0", "dev", "lo"], check=False, stderr=subprocess.DEVNULL)
    # Names are asked for by packets, and not of a service of the machine by a socket file.
    for path, text in _FILES.items():
        if Path(path).exists():
            own = folder / Path(path).name
            own.write_text(text, "utf-8")
            subprocess.run(["mount", "--bind", str(own), path], check=True)


def _watch(wire: socket.socket, asked: set[str], reached: set[str]) -> None:
    while True:
        packet = wire.recv(65535)[14:]
        version = packet[0] >> 4
        if version == 4:
            protocol, target, rest = packet[9], packet[16:20], packet[4 * (packet[0] & 15) :]
        elif version == 6:
            protocol, target, rest = packet[6], packet[24:40], packet[40:]
        else:
            continue
        begins = protocol == _UDP or (protocol == _TCP and rest[13] & 0x12 == 0x02)  # a connection's first packet
        if not begins:
            continue
        address, port = ipaddress.ip_address(target), struct.unpack("!H", rest[2:4])[0]
        if protocol == _UDP and port == _DNS:
            asked.add(_name(rest[20:]))
        elif not address.is_loopback:
            reached.add(f"{address}:{port}")


def _name(question: bytes) -> str:
    labels, place = [], 0
    while place < len(question) and (length := question[place]):
        labels.append(question[place + 1 : place + 1 + length].decode("ascii", "replace"))
        place += 1 + length
    return ".".join(labels)


def main() -> None:
    report, *command = sys.argv[1:]
    _set_up(Path(report).parent)
    asked: set[str] = set()
    reached: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL)) as wire:
        wire.bind(("lo", 0))
        threading.Thread(target=_watch, args=(wire, asked, reached), daemon=True).start()
        code = subprocess.run(command, check=False).returncode
        time.sleep(0.2)
        Path(report).write_text(json.dumps({"asked": sorted(asked), "reached": sorted(reached)}), "utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
