#!/usr/bin/env python3
"""The promise of docs/protocol.md: a client can be written from the page alone.

  test_protocol_page.py JUMUND JUMUN PAGE

Runs the client that stands on the page, as it stands there, against a real node, and sends every
request that the page shows in hex; each must be answered in the documented shape. The commands of
"By hand with nngcat" are run as well.
"""
import json
import os
import re
import shutil
import subprocess
import struct
import sys
import tempfile
import types

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


def check(condition, what):
    if not condition:
        sys.exit('FAILED: ' + what)


def page_client(page, port):
    """The first python block of the page, run with a msgpack of our own."""
    msgpack = types.ModuleType('msgpack')
    msgpack.packb, msgpack.unpackb = packb, unpackb
    sys.modules['msgpack'] = msgpack
    scope = {}
    exec(re.search(r'```python\n(.*?)```', page, re.S).group(1), scope)
    scope['Client'].__init__.__defaults__ = ('127.0.0.1', port)
    return scope


def run_the_page(page, port):
    scope = page_client(page, port)
    exec(re.findall(r'```python\n(.*?)```', page, re.S)[1], scope)
    client, key = scope['client'], scope['key']
    code, result = client.command(20, key)
    check(code == 0 and result[5]['state'] == 'paid', 'the order of the page is paid')
    check(result[5]['key'] == key and result[5]['captured'] == 19000, 'and has its key and money')
    code, result = client.command(21, key)
    actions = [event['action'] for event in result[5]]
    check(actions == ['order_placed', 'payment_recorded'], 'its history is told')
    code, result = client.command(20, scope['new_key']())
    check(code == 100 and result[5] == 'no order has this key', 'an unknown key is refused')
    check(client.command(1, key, [1])[0] == 62, 'a malformed command is refused by name')
    code, result = client.command(50, 'store-8', ['closed'])
    check(code == 0, 'a store is paused')
    code, result = client.command(52, 'store-8')
    check(result[5]['paused'] and result[5]['pause_reason'] == 'closed', 'and says so')
    return client


def run_the_hex(page, client):
    blocks = re.findall(r'```hex (.*?)\n(.*?)```', page, re.S)
    requests = [(name, bytes.fromhex(text)) for name, text in blocks
                if not name.startswith(('reply: ', 'republished: '))]
    check(len(requests) > 20, 'the page shows its requests')
    for name, request in requests:
        version, code, results = client.exchange(request)
        check((version, code) == (1, 0), name + ': the message is taken')
        for result in results:
            check(isinstance(result, list) and len(result) in (4, 5, 6, 7), name + ': shape')
            # Its shape is right, whatever the rules say of a key that old.
            check(not 50 <= result[0] < 68, name + ': is not malformed: %r' % result)
        want = {'ping': 'pong', 'shard_map': dict, 'status': dict, 'store_get': dict}.get(name)
        if want is not None:
            value = results[0][5]
            check(value == want or (want is dict and isinstance(value, dict)), name + ': value')
    version, code, sentence = client.exchange(b'\x91\x02')
    check((code, sentence) == (51, 'the protocol version is not supported'), 'version 2')
    check(client.exchange(b'rubbish')[1] == 50, 'rubbish')


def run_by_hand(page, jumun, folder, port):
    """The shell blocks of that section, as they stand there but for the port."""
    section = page[page.index('## By hand with nngcat'):page.index('## A client in 50 lines')]
    blocks = re.findall(r'```bash\n(.*?)```', section, re.S)
    check(len(blocks) == 2, 'a ping and a place by hand')
    if not shutil.which('nngcat'):
        print('no nngcat: its commands are left out')
        return
    script = ''.join(blocks).replace('127.0.0.1:7400', '127.0.0.1:%d' % port)
    env = {**os.environ, 'PATH': os.path.dirname(jumun) + ':' + os.environ['PATH']}
    told = subprocess.run(['bash', '-ec', script], cwd=folder, env=env, stdout=subprocess.PIPE,
                          text=True, check=False)
    check(told.returncode == 0, 'the commands by hand: ' + told.stdout)
    lines = told.stdout.strip().splitlines()
    ping = r'"\x93\x01\x00\x91\x96\x00\x00\x00\x00\x00\xa4\x70\x6f\x6e\x67"'
    check(lines[0] == ping and ping in section, 'the ping is answered: ' + lines[0])
    request, reply = (json.loads(line) for line in lines[1:3])
    check(request[2][0][0] == 1 and request[2][0][4][3] == 's1', 'the place is shown')
    check(reply[1] == 0 and reply[2][0][0] == 0, 'and it is done: ' + lines[2])


def main():
    jumund, jumun, page_path = map(os.path.abspath, sys.argv[1:])
    page = open(page_path, encoding='utf-8').read()
    with tempfile.TemporaryDirectory() as folder:
        node = subprocess.Popen([jumund, '--data', os.path.join(folder, 'data'), '--shards', '2',
                                 '--listen', 'tcp://127.0.0.1:0'],
                                stdout=subprocess.PIPE, text=True)
        try:
            ready = next((line for line in node.stdout if 'ready' in line), '')
            port = re.search(r'tcp://127\.0\.0\.1:(\d+)', ready)
            check(port is not None, 'the node came up')
            run_the_hex(page, run_the_page(page, int(port.group(1))))
            run_by_hand(page, jumun, folder, int(port.group(1)))
        finally:
            node.terminate()
            status = node.wait(timeout=30)
    check(status == 0, 'the node stopped in order')
    print('the page tells the truth')


if __name__ == '__main__':
    main()
