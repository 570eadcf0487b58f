"""As much of msgpack as the pages' clients need, where its package may not be installed."""
import struct

WIDTHS = {0xc4: 1, 0xc5: 2, 0xc6: 4, 0xd9: 1, 0xda: 2, 0xdb: 4}


def packb(value):
    """The few types that the page's client sends; not the shortest encodings, on purpose."""
    if value is None:
        return b'\xc0'
    if isinstance(value, int):
        return b'\xd3' + struct.pack('>q', value)
    if isinstance(value, str):
        text = value.encode()
        return b'\xda' + struct.pack('>H', len(text)) + text
    if isinstance(value, bytes):
        return b'\xc5' + struct.pack('>H', len(value)) + value
    return b'\xdd' + struct.pack('>I', len(value)) + b''.join(map(packb, value))


def unpack(data, at):
    tag = data[at]
    at += 1
    if tag < 0x80 or tag >= 0xe0:
        return tag - (256 if tag >= 0xe0 else 0), at
    if tag in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[tag], at
    if tag in WIDTHS or 0xa0 <= tag < 0xc0:
        size = tag & 31
        if tag in WIDTHS:
            size = int.from_bytes(data[at:at + WIDTHS[tag]], 'big')
            at += WIDTHS[tag]
        part = data[at:at + size]
        return (part if 0xc4 <= tag <= 0xc6 else part.decode()), at + size
    if 0xcc <= tag <= 0xd3:
        width = 1 << (tag & 3)
        return int.from_bytes(data[at:at + width], 'big', signed=tag >= 0xd0), at + width
    if tag == 0xcb:
        return struct.unpack('>d', data[at:at + 8])[0], at + 8
    is_map = 0x80 <= tag < 0x90 or tag in (0xde, 0xdf)
    count = tag & 15
    if tag >= 0xdc:
        width = 2 if tag in (0xdc, 0xde) else 4
        count = int.from_bytes(data[at:at + width], 'big')
        at += width
    items = []
    for _ in range(count * (2 if is_map else 1)):
        item, at = unpack(data, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if is_map else items), at


def unpackb(data):
    value, at = unpack(data, 0)
    assert at == len(data), 'bytes behind the value'
    return value
