"""Sends a DISCOVER of the machine 52:54:00:00:00:09 as a relay agent does: relay.py GIADDR."""
import socket
import sys

mac = bytes.fromhex("525400000009")
head = bytes([1, 1, 6, 1]) + b"\x12\x34\x56\x78" + bytes(16) + socket.inet_aton(sys.argv[1])
options = b"\x63\x82\x53\x63" + b"\x35\x01\x01" + b"\x3c\x20PXEClient:Arch:00007:UNDI:003016" + b"\x5d\x02\x00\x07" + b"\xff"
agent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
agent.bind(("", 67))
agent.sendto((head + mac + bytes(10) + bytes(192) + options).ljust(300, b"\0"), ("192.168.4.150", 67))
