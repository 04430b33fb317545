"""A network in one process: machines with addresses and interfaces of their own, latency, and partitions that heal.

Each machine is a network namespace with a TUN interface; this process carries their packets. So programs on two
machines reach each other by address alone, as slowly as a real network lets them, and nobody else at all.

It needs no privileges but those that `unshare --user --map-root-user --net` gives. Orders are lines on stdin: ``part
NAME…`` cuts machines off from all others but each other, ``heal`` ends that; each is answered with ``done``. It ends
with stdin.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import selectors
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 60_000
"""Large packets, of which few have to be carried."""
INTERFACE = "net0"
IPV4, TCP = 4, 6


def address_of(number: int) -> str:
    """Return the address of the machine of this number, from 0."""
    return f"10.77.{number + 1}.2"


@dataclass
class Machine:
    """A machine: its address, its network namespace, and the packets that leave and reach it.

    ``namespace`` and ``packets`` are file descriptors.
    """

    name: str
    address: str
    namespace: int
    packets: int


def make_machine(name: str, number: int) -> Machine:
    """Make a namespace with an interface; this process is in it afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace can be made")
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    packets = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(packets, TUNSETIFF, struct.pack("16sH22x", INTERFACE.encode(), IFF_TUN | IFF_NO_PI))
    address = address_of(number)
    for words in (
        "link set lo up",
        f"address add {address}/16 dev {INTERFACE}",
        f"link set {INTERFACE} mtu {MTU} up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return Machine(name, address, namespace, packets)


@dataclass
class Network:
    """Carries packets between machines.

    Parameters
    ----------
    machines
        All there are.
    delay
        Seconds that a packet takes.
    record
        Folder that gets a file for each pair of machines, with what one of them sent to the other over TCP.
    """

    machines: list[Machine]
    delay: float
    record: Path
    parted: set[str] = field(default_factory=set)
    _flying: list[tuple[float, int, Machine, bytes]] = field(default_factory=list)
    _sent: int = 0

    def carry(self) -> None:
        """Carry packets and follow orders until stdin ends."""
        by_address = {bytes(map(int, each.address.split("."))): each for each in self.machines}
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            for machine in self.machines:
                selector.register(machine.packets, selectors.EVENT_READ, machine)
            while True:
                wait = max(0.0, self._flying[0][0] - time.monotonic()) if self._flying else None
                for key, _ in selector.select(wait):
                    if key.data is not None:
                        self._take(key.data, by_address)
                    elif not self._obey():
                        return
                self._deliver()

    def _take(self, source: Machine, by_address: dict[bytes, Machine]) -> None:
        packet = os.read(source.packets, 2 * MTU)
        target = by_address.get(packet[16:20]) if packet[0] >> 4 == IPV4 else None
        if target is None or (source.name in self.parted) != (target.name in self.parted):
            return
        self._keep(source, target, packet)
        self._sent += 1
        heapq.heappush(self._flying, (time.monotonic() + self.delay, self._sent, target, packet))

    def _keep(self, source: Machine, target: Machine, packet: bytes) -> None:
        header = 4 * (packet[0] & 15)
        content = packet[header + 4 * (packet[header + 12] >> 4) :] if packet[9] == TCP else b""
        if content:
            with (self.record / f"{source.name}-{target.name}").open("ab") as file:
                file.write(content)

    def _deliver(self) -> None:
        while self._flying and self._flying[0][0] <= time.monotonic():
            *_, target, packet = heapq.heappop(self._flying)
            os.write(target.packets, packet)

    def _obey(self) -> bool:
        """Follow the orders that have come; False if none will come any more."""
        orders = os.read(0, 4096).decode().splitlines()
        for order in orders:
            word, *names = order.split()
            self.parted = set(names) if word == "part" else set()
            print("done", flush=True)
        return bool(orders)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--delay", type=float, required=True, help="seconds")
    parser.add_argument("--record", type=Path, required=True, help="folder")
    options = parser.parse_args()
    machines = [make_machine(name, number) for number, name in enumerate(options.names)]
    print(json.dumps({each.name: [each.address, each.namespace] for each in machines}), flush=True)
    Network(machines, options.delay, options.record).carry()


if __name__ == "__main__":
    main()
