#!/usr/bin/env python3
"""The promise of docs/formats.md: a reader can be written from the page alone.

  test_formats_page.py JUMUND FORMATS_PAGE PROTOCOL_PAGE

Lets a real node live a little and stop, then reads its data directory with the reader that stands
on the page, as it stands there.
"""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time

import test_protocol_page as protocol
from test_protocol_page import check

LINES = 400


def until_told(client):
    """Until each shard has seen what the other one had to tell."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        one, other = client.command(102, None)[1][5]['shards']
        if (one['paused_stores'] == other['paused_stores'] == 2 and
                one['messages_seen'] >= other['messages_sent'] and
                other['messages_seen'] >= one['messages_sent']):
            return
        time.sleep(0.01)
    check(False, 'the shards tell each other of pauses')


def live(jumund, data, page):
    """A few orders and a pause; returns the key of a small order and of a large one."""
    node = subprocess.Popen([jumund, '--data', data, '--shards', '2', '--listen',
                             'tcp://127.0.0.1:0'], stdout=subprocess.PIPE, text=True)
    try:
        ready = next((line for line in node.stdout if 'ready' in line), '')
        port = re.search(r'tcp://127\.0\.0\.1:(\d+)', ready)
        check(port is not None, 'the node came up')
        scope = protocol.page_client(page, ['tcp://127.0.0.1:' + port.group(1)])
        client, small, large = scope['Client'](), scope['new_key'](), scope['new_key']()
        lines = [['sku-%03d' % i, 1 + i, 100] for i in range(LINES)]
        total = sum(100 * line[1] for line in lines)
        for kind, key, body in [
                (1, small, [3, 1, 'KRW', 'store-7', [['bibimbap', 2, 9500]], 0, 0, 19000]),
                (2, small, [2, 'card', 'psp-1', 19000]), (14, small, ['no peanuts']),
                (1, large, [4, 2, 'EUR', 'store-8', lines, 0, 0, total]),
                (50, 'store-7', ['fire drill']), (50, 'store-8', None)]:
            check(client.command(kind, key, body)[0] == 0, 'command %d is done' % kind)
        until_told(client)
        return small, large, total
    finally:
        node.terminate()
        check(node.wait(timeout=60) == 0, 'the node stopped in order')


def segments(data, shard):
    folder = os.path.join(data, 'shard-%d' % shard)
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if re.fullmatch(r'log-\d{20}', name)]


def check_log(scope, data, small, large, total):
    kinds, lines = {}, ''
    for shard in (0, 1):
        for segment in segments(data, shard):
            for index, time_ms, event in scope['events'](segment):
                kinds.setdefault(event[24:40], []).append(event[4])
                check(1.7e12 < time_ms < 1e13 and index > 1, 'an entry has its time and index')
            printed = subprocess.run([sys.executable, '-', segment], input=scope['source'],
                                     capture_output=True, text=True, check=True)
            lines += printed.stdout
    check(kinds[small] == [1, 2, 15], 'the small order: placed, paid, annotated')
    check(kinds[large] == [1], 'the large order: placed')
    # 92, that a message was acknowledged, is logged now and then.
    check(set(kinds[bytes(16)]) - {92} == {90, 91}, 'shards told each other')
    check('placed in store-7 for 19000\n' in lines, 'the page prints the small order')
    check('placed in store-8 for %d\n' % total in lines, 'and the large one')
    check(re.search(r'kind 2 %s version 2 state 3\n' % small.hex(), lines), 'and the payment')


def check_state(scope, data, small, large):
    orders, timers, boards, stores = {}, {}, {}, {}
    for shard in (0, 1):
        state = os.path.join(data, 'shard-%d' % shard, 'state')
        orders.update(scope['rows'](state, b'orders'))
        timers.update(scope['rows'](state, b'timers'))
        boards[shard] = dict(scope['rows'](state, b'boards'))
        stores.update(scope['rows'](state, b'stores'))
        meta = dict(scope['rows'](state, b'meta'))
        check(meta[b'identity'] == b'JUMUNDIR' + struct.pack('<II', 1, shard), 'the identity')
        applied, term = struct.unpack_from('<QQ', meta[b'marker'], 8)
        last = list(scope['rows'](segments(data, shard)[-1]))[-1][0]
        check(struct.pack('>Q', applied) == last and term >= 1, 'the marker is at the end')
        cursors = {name.decode(): struct.unpack('<%dQ' % (len(value) // 8), value)[1:]
                   for name, value in scope['rows'](state, b'cursors')}
        check({name: len(value) for name, value in cursors.items()} ==
              {'stores': 2, 'totals.0': 8, 'totals.1': 8, 'peer.0': 5, 'peer.1': 5}, 'cursors')
        check(cursors['stores'][0] <= applied and cursors['stores'][1] > 1.7e12, 'cursor stores')
        check(cursors['peer.%d' % shard] == (0,) * 5, 'a shard is no peer of its own')
        acknowledged, sent, seen, oldest, seen_index = cursors['peer.%d' % (1 - shard)]
        check(seen > 0 and 1 < seen_index <= applied, 'messages were seen')
        check(acknowledged <= sent and (oldest == 0) == (acknowledged == sent), 'and sent')
        vote = dict(scope['rows'](os.path.join(data, 'shard-%d' % shard, 'vote')))
        check(len(vote[b'vote']) == 24 and vote[b'identity'] == meta[b'identity'], 'the vote')
        totals = cursors['totals.0']
        check(sum(totals) == len(dict(scope['rows'](state, b'orders'))), 'totals')
    check(set(orders) == {small, large}, 'both orders are stored')
    block = orders[small][16:]
    check(block[4:7] == bytes((1, 1, 3)) and block[8:24] == small, 'the head of a paid order')
    check(struct.unpack_from('<q', block, 72)[0] == 19000, 'its total')
    check(block[192:199] == b'store-7', 'its store')
    check(struct.unpack_from('<H', orders[large], 16 + 164)[0] == LINES, 'lines of the large one')
    deadlines = {key[8:]: struct.unpack('>Q', key[:8])[0] for key in timers}
    for key, row in orders.items():
        check(deadlines[key] == struct.unpack_from('<q', row, 16 + 32)[0], 'a timer')
    for notes in boards.values():
        check(sorted(row[16 + 72:] for row in notes.values()) == [b'store-7', b'store-8'], 'notes')
        check(all(row[16 + 6] == 2 for row in notes.values()), 'of pauses')
    check(sorted(row[16 + 72:16 + 79] for row in stores.values()) == [b'store-7', b'store-8'],
          'both stores are stored')


def main():
    jumund, page_path, protocol_path = sys.argv[1:]
    page = open(page_path, encoding='utf-8').read()
    source = re.search(r'```python\n(.*?)```', page, re.S).group(1)
    scope = {'__name__': 'reader', 'source': source}
    exec(source, scope)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, 'data')
        small, large, total = live(jumund, data, open(protocol_path, encoding='utf-8').read())
        node = json.load(open(os.path.join(data, 'node.json'), encoding='utf-8'))
        shown = json.loads(re.search(r'```json\n(.*?)```', page, re.S).group(1))
        check(set(node) == set(shown) and node['shards'] == 2 and node['format'] == 1, 'node.json')
        check(sorted(os.listdir(data)) ==
              ['feed-snapshots', 'lock', 'node.json', 'shard-0', 'shard-1'], 'the files')
        check_log(scope, data, small, large, total)
        check_state(scope, data, small, large)
    print('the page tells the truth')


if __name__ == '__main__':
    main()
