#!/usr/bin/env python3
"""What the kernel can carry: one sender cuts datagrams by UDP_SEGMENT, one receiver takes them joined (UDP_GRO), and no protocol between."""

import contextlib
import json
import os
import socket
import sys
import time

UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h
DATAGRAM = 1468 + 4  # a TFTP block with its header
DATAGRAMS = 44  # as many as an IP packet holds
BUFFER = 64 << 20
END = b"end"


def receive(report, core):
    os.sched_setaffinity(0, {core})
    taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taker.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    taker.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
    taker.bind(("127.0.0.1", 0))
    os.write(report, f"{taker.getsockname()[1]}\n".encode())
    room, taken, began = bytearray(1 << 16), 0, None
    while True:
        octets = taker.recv_into(room)
        began = began or time.monotonic()
        if octets == len(END) and room[:octets] == END:
            break
        taken += octets
    os.write(report, f"{taken} {time.monotonic() - began}\n".encode())


def main():
    sender_core, receiver_core, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        receive(writing, receiver_core)
        os._exit(0)
    os.sched_setaffinity(0, {sender_core})
    report = os.fdopen(reading)
    port = int(report.readline())
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", port))
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, DATAGRAM)
    window, sends = os.urandom(DATAGRAM * DATAGRAMS), 0
    before, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(64):
            sender.send(window)
        sends += 64
    cpu_s = time.process_time() - before
    # The receiver may have lost the word in the flood, so it is said until it has ended.
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        with contextlib.suppress(ConnectionRefusedError):  # it has ended since
            sender.send(END)
        time.sleep(0.001)
    taken, wall_s = report.readline().split()
    print(json.dumps({"taken": int(taken), "wall_s": float(wall_s), "sent": sends * len(window), "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
