#!/usr/bin/env python3
"""What jumun-replay says beside its answers: of a state that is not there, and of shards that a
moment does not name; and that a drawing is one.

  test_replay_notes.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH DAMAGE
"""
import json
import shutil
import subprocess
import sys
import time

from replay_process import (BENCH, PATIENCE_S, Node, check, replay, replay_json, replay_lines,
                            verdict)

DAMAGE = sys.argv[5]
RECORDS = 150               # of each shard, at least


def test_state_is_not_there(data, work):
    """A shard without stored state: told, and a fault where the log cannot make up for it."""
    copy = work / 'stateless'
    check(replay_json('verify', data)['notes'] == [], 'nothing to be noted')
    shutil.copytree(data, copy)
    shutil.rmtree(copy / 'shard-1' / 'state')
    for source in (copy, copy / 'shard-1'):
        report = replay_json('verify', source)
        check([(n['kind'], n['shard']) for n in report['notes']] == [('state_missing', 1)] and
              report['sound'], f'a note, and no fault: {report["notes"]} {report["faults"]}')
        check('Note: shard 1 has no stored state' in replay('verify', source).stdout, 'for people')
    for unasked in (('--log-only',), ('--at', '1'), ('--shard', '0')):
        check(replay_json('verify', copy, *unasked)['notes'] == [], f'verify {unasked}')
    # Lost together with the log's beginning.
    log = copy / 'shard-1' / 'log-00000000000000000001'
    subprocess.run([DAMAGE, 'front', str(copy / 'shard-1'), '40'], check=True,
                   stdout=subprocess.DEVNULL)
    log.rename(log.with_name(f'log-{40:020}'))
    (copy / 'shard-1' / 'journal').unlink(missing_ok=True)
    report = replay_json('verify', copy, expect=1)
    told = [f for f in report['faults'] if f['kind'] == 'state_unreadable']
    check([f['shard'] for f in told] == [1] and 'begins with record 40' in told[0]['what'],
          f'a fault: {report["faults"]}')
    check(not report['notes'], f'and no note: {report["notes"]}')
    # As much, where an empty one was begun anew.
    shutil.copytree(data / 'shard-1' / 'vote', copy / 'shard-1' / 'state')
    check('state_unreadable' in {f['kind'] for f in
                                 replay_json('verify', copy, expect=1)['faults']}, 'another fault')
    shutil.rmtree(copy)


def test_unnamed(data):
    """A moment that names one shard: where the other one stands is told."""
    last = {s['shard']: s['index'] for s in replay_json('hash', data)['shards']}
    words = f'--at 0:9 does not name shard 1 (record {last[1]}): it stands at the end of its log'
    for ask in (('state', data, '--all'), ('verify', data), ('hash', data)):
        check(words in replay(*ask, '--at', '0:9').stderr.splitlines(), f'{ask[0]}: {words}')
        check(not replay(*ask, '--at', '0:9', '-q').stderr, f'{ask[0]}, quiet')
        check('does not name' not in replay(*ask, '--at', '0:9,1:9').stderr, 'both are named')
        check('does not name' not in replay(*ask, '--at', '9').stderr, 'all are meant')
    check('--from 0:9 does not name shard 1 (record 1): it begins at the beginning of its log'
          in replay('export', data, '--from', '0:9').stderr, 'where it begins')
    for kind in ('--all', '--stores'):
        told = {json.dumps(o['as_of']) for o in
                replay_lines('state', data, kind, '--json', '--at', '0:99', '-q')}
        check(told <= {'{"shard": 0, "index": 99}',
                       f'{{"shard": 1, "index": {last[1]}, "named": false}}'} and len(told) == 2,
              f'state {kind}: {told}')
    key = next(o['key'] for o in replay_lines('state', data, '--all', '--json', '-q')
               if o['as_of']['shard'] == 1)
    for at, named in ((('--at', '0:9'), {'named': False}), ((), {}), (('--at', 'now'), {})):
        check(replay_json('state', data, key, *at)['as_of'] ==
              {'shard': 1, 'index': last[1], **named}, f'state of one order {at}')


def test_plots(data, work):
    """Short and long spans have axes of their own, and the widths of buckets that go with them."""
    for name, head in (('p.png', b'\x89PNG'), ('p.svg', b'<?xml')):
        replay('stats', data, '-q', '--plot', work / name)
        drawing = (work / name).read_bytes()
        check(drawing.startswith(head), f'{name}: {drawing[:20]}')
    words = drawing.decode()
    placed = replay_json('stats', data)['kinds']['order_placed']
    for text in (f'{placed:,} orders placed', 'rates over time (', 'UTC)', 'time in each state',
                 'seconds in the state', 'orders ended', 'picked_up'):
        check(text in words, f'the drawing says "{text}"')
    report = replay_json('stats', data)
    wanted = 50 if report['end_ms'] - report['begin_ms'] <= 5000 else 1000
    check(report['bucket_ms'] == wanted, f'{report["bucket_ms"]} ms')
    check(replay_json('stats', data, '--bucket', '2s')['bucket_ms'] == 2000, 'as it is told')


def is_enough(data):
    """A slow machine brings less of it in a second than is looked at here."""
    return (min(s['index'] for s in replay_json('hash', data)['shards']) >= RECORDS and
            replay_json('stats', data)['kinds'].get('order_picked_up', 0) > 0)


def tests(work):
    data = work / 'data'
    node = Node(data, '--shards', '2')
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        subprocess.run([BENCH, '-e', node.endpoint, '-s', '1', '--warmup', '0', '--live', '300',
                        '--batch', '8', '--in-flight', '2', '-q', '--timeout-ms', '60000'],
                       stdout=subprocess.DEVNULL, check=True)
        node.rest()
        if is_enough(data):
            break
    node.stop()
    test_state_is_not_there(data, work)
    test_unnamed(data)
    test_plots(data, work)


if __name__ == '__main__':
    sys.exit(verdict('replay-notes', tests))
