"""Loads a file by TFTP up to a block, and says no more: stall.py NAME BLOCKS."""
import socket
import sys

name, blocks = sys.argv[1], int(sys.argv[2])
station = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
station.settimeout(10)
station.sendto(b"\0\1" + name.encode() + b"\0octet\0", ("192.168.4.150", 69))
for number in range(1, blocks + 1):
    _, server = station.recvfrom(2048)
    if number < blocks:
        station.sendto(b"\0\4" + number.to_bytes(2, "big"), server)
