#!/usr/bin/env python3
"""A byte is flipped in an old segment of a running node: it names the record by itself, in its log
and its status, goes on, and says nothing of it any more once it is as it was.

  test_scrub.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH
"""
import json
import signal
import struct
import sys
import time

from replay_process import PATIENCE_S, Node, check, replay_json, verdict

PERIOD_S = 8
INDEX = 500


def status(node):
    return json.loads(node.jumun('status', '--json'))


def awaited(node, seen, what):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        told = status(node)
        if seen(told):
            return told
        time.sleep(0.2)
    check(False, f'{what}: {told["scrub"]} {told["shards"][0].get("damage")}')
    return told


def two_segments(data):
    """A node whose first segment is closed."""
    node = Node(data, '--shards', '1', '--segment-bytes', '64M', '--scrub-period', f'{PERIOD_S}s')
    for _ in range(60):
        check(node.bench(2, '--lines', '64').wait() == 0, 'the load went through')
        if len(list((data / 'shard-0').glob('log-*'))) > 1:
            return node
    raise SystemExit('no segment was closed')


def places(path, term):
    """Where the last byte of the header of this record lies, in all pages that have or had it."""
    content, wanted = path.read_bytes(), struct.pack('<QQ', INDEX, term)
    at, found = content.find(wanted), []
    while at >= 0:
        found.append(at + 40)
        at = content.find(wanted, at + 1)
    return found


def flip(path, found):
    with open(path, 'r+b') as file:
        for at in found:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 8]))


def named(node, data, segment):
    told = awaited(node, lambda s: s['shards'][0]['damages'] > 0, 'it is found')
    shard, damage = told['shards'][0], told['shards'][0].get('damage')
    check(shard['damages'] == 1, f'nothing else is damaged: {shard["damages"]}')
    check(damage == {'kind': 'record_damaged', 'where': segment, 'index': INDEX, 'upto': INDEX,
                     'what': 'checksum does not match'}, damage)
    check(told['ready'] and not shard['failed'], 'the node goes on')
    text = node.jumun('status', '-i', '0')
    check(f'shard 0, {segment}, record {INDEX}: checksum does not match' in text, text)
    log = node.log.read_text()
    check(f'error shard 0: damaged on this node\'s disk: {segment}, record {INDEX}: checksum' in log
          and 'restore a backup' in log, log[-600:])
    check(node.bench(1).wait() == 0, 'orders are taken')
    verified = replay_json('verify', data, expect=1)
    check(('record_damaged', segment, INDEX) in
          [(f['kind'], f['segment'], f.get('index')) for f in verified['faults']],
          f'verify agrees: {verified["faults"][:3]}')


def tests(work):
    data = work / 'data'
    node = two_segments(data)
    try:
        damaged_and_repaired(node, data)
    finally:
        if node.process.poll() is None:
            node.stop(signal.SIGKILL)


def damaged_and_repaired(node, data):
    told = awaited(node, lambda s: s['scrub']['bytes'] > 48 << 20, 'the segment is read')
    check(told['shards'][0]['damages'] == 0 and 'damage' not in told['shards'][0], told['scrub'])
    check(told['scrub']['period_ms'] == PERIOD_S * 1000, told['scrub'])
    check('damage' not in node.jumun('status', '-i', '0'), 'nothing is said of what is whole')
    segment = sorted((data / 'shard-0').glob('log-*'))[0]
    found = places(segment / 'data.mdb', told['shards'][0]['term'])
    check(found, 'the record is there')
    if not found:
        return
    flip(segment / 'data.mdb', found)
    named(node, data, segment.name)
    flip(segment / 'data.mdb', found)
    awaited(node, lambda s: s['shards'][0]['damages'] == 0, 'it is forgotten')
    node.stop()
    node.options += ['--scrub-period', '0']
    node.start()
    check(status(node)['scrub']['period_ms'] == 0, 'it can be turned off')
    node.stop()


if __name__ == '__main__':
    sys.exit(verdict('scrub', tests))
