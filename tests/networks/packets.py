"""IPv4 packets with UDP in them, as bytes: their addresses, translation, and fragments.

Pure. What happens to packets on their way is in lines.py.
"""

import struct

UDP = 17
DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET = 0x4000, 0x2000, 0x1FFF


def ends(packet):
    """The addresses (host, port) of source and destination; None if it is anything but a whole datagram."""
    if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != UDP or _flags(packet) & (MORE_FRAGMENTS | OFFSET):
        return None
    source, destination = struct.unpack_from("!HH", packet, _header_size(packet))
    return (_host(packet[12:16]), source), (_host(packet[16:20]), destination)


def with_ends(packet, source, destination):
    """The packet with other addresses."""
    size = _header_size(packet)
    header, data = bytearray(packet[:size]), bytearray(packet[size:])
    header[12:20] = _bytes(source[0]) + _bytes(destination[0])
    struct.pack_into("!HH", data, 0, source[1], destination[1])
    struct.pack_into("!H", data, 6, 0)  # no checksum, which IPv4 allows
    return _joined(header, data)


def fragments(packet, mtu):
    """The packet as a router with this MTU passes it on (RFC 791): in no piece at all, if it must not be split."""
    if len(packet) <= mtu:
        return [packet]
    if _flags(packet) & DONT_FRAGMENT:
        return []
    size = _header_size(packet)
    header, data = packet[:size], packet[size:]
    step = (mtu - size) // 8 * 8
    offsets = range(0, len(data), step)
    return [
        _joined(header, data[at : at + step], (MORE_FRAGMENTS if at != offsets[-1] else 0) | at // 8) for at in offsets
    ]


def checksum(header):
    """The Internet checksum (RFC 1071): 0 for a header that contains its own."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _joined(header, data, flags=None):
    """A packet of these, with the right length and checksum in its header, and perhaps other flags."""
    header = bytearray(header)
    struct.pack_into("!H", header, 2, len(header) + len(data))
    if flags is not None:
        struct.pack_into("!H", header, 6, flags)
    struct.pack_into("!H", header, 10, 0)
    struct.pack_into("!H", header, 10, checksum(header))
    return bytes(header) + bytes(data)


def _header_size(packet):
    return (packet[0] & 15) * 4


def _flags(packet):
    return struct.unpack_from("!H", packet, 6)[0]


def _host(data):
    return ".".join(map(str, data))


def _bytes(host):
    return bytes(map(int, host.split(".")))
