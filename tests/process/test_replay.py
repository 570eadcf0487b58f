#!/usr/bin/env python3
"""jumun-replay against real nodes: what is sound is found sound, also under load; each kind of
damage in copies of a real log is found and named; backups, restores and rebuilds give back what the
log says, by a model of their own; another build's rules show their one difference and no more.

  test_replay.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH JUMUN_DEMO DAMAGE RULES CHANGED SOURCE
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from replay_process import (BENCH, JUMUND, PATIENCE_S, REPLAY, Node, beside, check, replay,
                            replay_json, replay_lines, verdict)

(DEMO, DAMAGE, RULES, CHANGED, ROOT) = sys.argv[5:10]
ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
SEED = int(os.environ.get('JUMUN_TEST_SEED', '20261121'))


def key_hex(text):
    value = 0
    for c in text:
        value = value * 32 + ALPHABET.index(c)
    return f'{value:032x}'


def load(node):
    """Every kind of life that a few seconds have room for."""
    subprocess.run([DEMO, '-e', node.endpoint, '--limit', '600', '-q', '--no-hints', '--data',
                    f'{ROOT}/data/online_retail_orders.csv.gz'],
                   check=True, stdout=subprocess.DEVNULL)
    for i in range(12):
        store = f's{i % 3}'
        key = node.jumun('place', '--store', store, '--currency', 'KRW', '--fulfilment', 'pickup',
                         '--customer', f'c{i}', '--line', 'bibimbap:2:9500', '--line',
                         'kimchi:1:500')
        node.jumun('pay', key, '19500', '--reference', f'pg-{i}')
        if i % 4 == 0:
            node.jumun('cancel', key, '--by', 'customer', '--reason', 'changed my mind')
            node.jumun('refund', key)
            continue
        node.jumun('accept', key, '--minutes', '20')
        node.jumun('annotate', key, f'note {i}')
        if i % 4 == 1:
            node.jumun('cancel', key, '--by', 'store', '--line', '0:1')
        node.jumun('ready', key)
    early = node.jumun('key', 'new')
    node.jumun('pay', early, '9500', '--reference', 'early')
    node.jumun('place', '--key', early, '--store', 's1', '--currency', 'KRW', '--fulfilment',
               'pickup', '--line', 'bibimbap:1:9500')
    node.jumun('store', 'pause', 's2', '--reason', 'fire drill')
    node.jumun('store', 'resume', 's2')
    node.rest()


def model(lines):
    """An order as its events tell it, without any of the engine's code."""
    orders = {}
    for e in lines:
        if e['action'].startswith('store_'):
            continue
        o = orders.setdefault(e['subject'], {'captured': 0, 'refunded': 0, 'total': 0})
        info = e['info']
        o['state'], o['version'], o['last_index'] = e['state'], e['version'], e['index']
        for field in ('total', 'captured', 'refunded', 'refund_owed'):
            if field in info:
                o[field] = info[field]
    return orders


def same_as_model(source, cuts, lines):
    """What `state --all` says of a directory against the model's word up to the cuts."""
    wanted = model([e for e in lines if e['index'] <= cuts[e['shard']]])
    found = {o['key']: o for o in replay_lines('state', source, '--all', '--json', '-q')}
    check(found.keys() == wanted.keys(), f'{source}: {len(found)} orders, not {len(wanted)}')
    for key, order in wanted.items():
        for field, value in order.items():
            if found.get(key, {}).get(field) != value:
                check(False, f'{source}: {key}.{field} is {found.get(key, {}).get(field)}, '
                             f'not {value}')
                return


# -- the tests ----------------------------------------------------------------------------------

def test_sound(data):
    report = replay_json('verify', data, '--hash')
    check(report['sound'] and report['faults_count'] == 0, f'sound: {report["faults"][:3]}')
    check(sum(s['orders'] for s in report['shards']) > 400, 'orders are folded')
    check(report['messages'] > 0, 'messages are compared')
    hashes = replay_json('hash', data)
    check([s['hash'] for s in hashes['shards']] == [s['hash'] for s in report['shards']],
          'hash and verify --hash agree')
    check(replay_json('verify', data, '--against', data)['sound'], 'a directory equals itself')
    report = replay_json('verify', data, '--against', data, '--against', data)
    check(report['sound'] and len(report['against']) == 4, 'several are compared at once')
    return hashes


def test_damage(data, work):
    """Each kind in a copy of its own; where it must be found, and as what."""
    lines = replay_lines('export', data, '-q')
    paid = next(e for e in lines if e['action'] == 'payment_recorded' and e['shard'] == 0
                and e['info']['payment_state'] == 'captured')
    key, index, shard = paid['subject'], paid['index'], 0
    hexkey = key_hex(key)
    place = next(e for e in replay_json('history', data, key)['events'] if e['index'] == index)
    stored = next(o for o in replay_lines('state', data, '--all', '--json', '-q', '--shard', '0')
                  if o['captured'] > 0 and o['state'] in ('delivered', 'completed'))
    stored_hex = key_hex(stored['key'])
    sent = next(e for e in replay_lines('export', data, '-q', '--messages', '--kind',
                                        'message_sent') if e['shard'] == 0)

    def damaged(name, change):
        copy = work / f'damaged-{name}'
        shutil.copytree(data, copy)
        change(copy / 'shard-0')
        report = replay_json('verify', copy, expect=1)
        shutil.rmtree(copy)
        return report['faults']

    def tool(*arguments):
        return lambda directory: subprocess.run(
            [DAMAGE, arguments[0], str(directory), *map(str, arguments[1:])], check=True,
            stdout=subprocess.DEVNULL)

    def flip(directory):
        path = directory / 'log-00000000000000000001' / 'data.mdb'
        raw = bytearray(path.read_bytes())
        raw[place['offset'] + 60] ^= 4
        path.write_bytes(raw)

    def cut(pages):
        def change(directory):
            path = directory / 'log-00000000000000000001' / 'data.mdb'
            os.truncate(path, pages * 4096)
        return change

    def has(name, faults, kind, **fields):
        found = [f for f in faults if f['kind'] == kind and f['shard'] == shard
                 and all(f.get(k) == v for k, v in fields.items())]
        check(found, f'{name}: no {kind} with {fields} in {faults[:4]}')
        return found

    segment = 'log-00000000000000000001'
    has('flip', damaged('flip', flip), 'record_damaged', index=index, segment=segment,
        offset=place['offset'])
    pages = (data / 'shard-0' / segment / 'data.mdb').stat().st_size // 4096
    for left in (1, 2, 5, pages // 2, pages - 8):
        faults = damaged(f'cut to {left} pages', cut(left))
        has(f'cut to {left}', faults, 'segment_cut', segment=segment)
        has(f'cut to {left}', faults, 'record_missing', segment=segment)
        counts = {}
        for f in faults:
            counts[f['kind'], f['shard']] = counts.get((f['kind'], f['shard']), 0) + 1
        check(max(counts.values()) <= 20, f'cut to {left}: repeated faults are counted: {counts}')
    # A file without a page may be what a crash left; here the state knows more.
    faults = damaged('cut to nothing', cut(0))
    has('cut to nothing', faults, 'segment_unreadable', segment=segment)
    has('cut to nothing', faults, 'state_ahead')
    check_counts(data, work, cut(0))
    has('missing', damaged('missing', tool('missing', index)), 'record_missing', index=index,
        segment=segment)
    faults = damaged('swap', tool('swap', index, index + 1))
    has('swap', faults, 'record_damaged', index=index)
    has('swap', faults, 'record_damaged', index=index + 1)
    check(f'it says {index + 1}' in json.dumps(faults), f'swap: {faults[:2]}')
    has('version', damaged('version', tool('version', index, hexkey)), 'version_gap', index=index,
        subject=key)
    has('chain', damaged('chain', tool('chain', index, hexkey)), 'chain_broken', index=index,
        subject=key)
    has('money', damaged('money', tool('money', index, hexkey)), 'invariant_broken', index=index,
        subject=key)
    has('time', damaged('time', tool('time', index)), 'time_backwards', index=index)
    faults = damaged('message', tool('message', sent['index']))
    check(any(f['kind'] == 'message_differs' and f['shard'] == sent['info']['peer']
              for f in faults), f'message: {faults[:3]}')
    has('lie', damaged('lie', tool('snapshot-lie', stored_hex)), 'snapshot_differs',
        subject=stored['key'], segment='state/orders')
    has('behind', damaged('behind', tool('snapshot-behind', stored_hex)), 'snapshot_differs',
        subject=stored['key'])
    has('gone', damaged('gone', tool('snapshot-gone', stored_hex)), 'snapshot_missing',
        subject=stored['key'])
    has('snapshot flip', damaged('sflip', tool('snapshot-flip', stored_hex)), 'snapshot_damaged',
        subject=stored['key'])
    has('totals', damaged('totals', tool('totals')), 'cursor_differs')
    has('timer', damaged('timer', tool('timer')), 'timer_differs')

    copy = work / 'damaged-against'
    shutil.copytree(data, copy)
    tool('money', index, hexkey)(copy / 'shard-0')
    report = replay_json('verify', data, '--against', copy, expect=1)
    check(any(f['kind'] == 'hash_differs' and f['index'] == index for f in report['faults']),
          f'against: the first record that differs is named: {report["faults"][:2]}')
    shutil.rmtree(copy)


def check_counts(data, work, change):
    """Of many faults of a kind the first are shown, all with --max-faults all, and counted."""
    copy = work / 'damaged-counts'
    shutil.copytree(data, copy)
    change(copy / 'shard-0')
    few, every = (replay_json('verify', copy, *more, expect=1)
                  for more in ((), ('--max-faults', 'all')))
    check(few['faults_count'] == every['faults_count'] == len(every['faults']), 'all are counted')
    for c in few['faults_by_kind']:
        shown = sum(f['kind'] == c['kind'] and f['shard'] == c['shard'] for f in few['faults'])
        check(shown == c['shown'] == min(c['count'], 20), f'counted: {c}')
    surplus = next(c for c in few['faults_by_kind'] if c['kind'] == 'snapshot_surplus')
    check(surplus['count'] > 100, f'each stored order is a fault: {surplus}')
    text = replay('verify', copy, '--max-faults', '3', expect=1).stdout
    check(f'... and {surplus["count"] - 3:,} more snapshot_surplus in shard 0' in text,
          'the rest is a line')
    check(text.count('snapshot_surplus') == 4, 'and three are shown')
    shutil.rmtree(copy)


def test_random_bits(data, work):
    """Bits anywhere in the files: never a crash, and the log's own bytes never pass."""
    rng = random.Random(SEED)
    copy = work / 'flips'
    shutil.copytree(data, copy)
    path = copy / 'shard-0' / 'log-00000000000000000001' / 'data.mdb'
    whole = path.read_bytes()
    for _ in range(40):
        raw = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        done = replay('verify', copy, '--json', expect=None)
        check(done.returncode in (0, 1, 3), f'random bits: exit {done.returncode} {done.stderr}')
        if done.returncode == 0:
            # Only where nothing stands: free pages, and what LMDB keeps for itself.
            exported = replay('export', copy, '-q', '--shard', '0').stdout
            check(exported == replay('export', data, '-q', '--shard', '0').stdout,
                  'random bits: what is found sound is what it was')
    shutil.rmtree(copy)


def test_questions(data, lines):
    key = next(e['subject'] for e in lines if e['action'] == 'order_cancelled')
    mine = [e for e in lines if e['subject'] == key]
    history = replay_json('history', data, key)
    check([e['version'] for e in history['events']] == list(range(1, len(mine) + 1)),
          'a history is whole')
    check([e['action'] for e in history['events']] == [e['action'] for e in mine],
          'history and export agree')
    shown = replay_json('show', data, key)
    check(shown['order']['state'] == mine[-1]['state'], 'show knows the state')
    check(any('delivered' in e for e in shown['events']), 'show tells where the news went')
    check('●' in replay('show', data, key).stdout, 'a line of time is drawn')
    for e in mine:
        at = f'{e["shard"]}:{e["index"]}'
        state = replay_json('state', data, key, '--at', at)
        check(state['version'] >= e['version'] and state['last_index'] == e['index'],
              f'state at {at}')
    check(replay('history', data, '0' * 25 + '1', expect=4).returncode == 4, 'an unknown order')
    newest = max(e['index'] for e in lines if e['shard'] == 1)
    for ask in (('state', data, key), ('show', data, key), ('hash', data)):
        for at in ('1:999999', '999999'):
            told = replay(*ask, '--at', at, expect=4).stderr
            check('log' in told and 'ends with' in told, f'{ask[0]}: no record {at}')
    check(replay('hash', data, '--at', f'1:{newest}').stdout, 'the newest record is there')
    for ask in (('export', data, '--from', '7:1'), ('stats', data, '--to', '0:9,7:1')):
        told = replay(*ask, expect=4).stderr
        check('has no shard 7' in told, f'{ask}: a shard that is not there: {told}')
    told = replay('stats', data, '--from', '5', '--bucket', '1s', expect=2).stderr
    check('--from' in told, f'stats begin at a time: {told}')
    told = replay('export', data, '--fields', 'index,kind', expect=2).stderr
    check('"kind" is no field' in told, 'a field that is none is refused')
    told = replay('stats', data, '--plot', 'year.gif', expect=2).stderr
    check('.png' in told and not Path('year.gif').exists(), 'only PNG and SVG are drawn')
    told = replay('verify', data, '--against', data).stdout
    check(told.count('the same state as') == 2, 'verify tells where it compared')
    placed = [e for e in lines if e['action'] == 'order_placed']
    stats = replay_json('stats', data, '--stores', '100000')
    check(stats['kinds']['order_placed'] == len(placed), 'stats count what was placed')
    check(sum(s['orders'] for s in stats['stores']) == len(placed), 'stats count by store')
    check(stats['events'] == len(lines), 'stats count all events')
    check(stats['messages'] == replay_json('verify', data)['messages'] > 0,
          f'stats and verify count the same messages: {stats["messages"]}')
    csv = replay('export', data, '-q', '-f', 'csv', '--store', 's1', '--fields',
                 'index,subject,store,info.total').stdout.splitlines()
    stores = {e['subject'] for e in placed if e['info']['store'] == 's1'}
    born = {e['subject']: e['version'] for e in placed}  # what was held before names no store
    check(len(csv) - 1 == sum(1 for e in lines if e['subject'] in stores
                              and e['version'] >= born[e['subject']]) +
          sum(1 for e in lines if e['action'].startswith('store_') and
              e['info']['store'] == 's1'), 'a filter by store takes all its events')
    again = replay_lines('republish', data, '-q', '--order', key)
    check(len(again) == len(mine) and all(e['republished'] for e in again), 'republished')
    middle = {s: max(e['index'] for e in lines if e['shard'] == s) // 2 for s in (0, 1)}
    between = replay_lines('diff', data, '--from', ','.join(f'{s}:{i}' for s, i in middle.items()),
                           '--json', expect=1)
    before, after = model([e for e in lines if e['index'] <= middle[e['shard']]]), model(lines)
    changed = {k for k in after if before.get(k, {}).get('version') != after[k]['version']}
    check({d['key'] for d in between[:-1]} == changed, 'diff tells what changed')
    check(between[-1] == {'differences': len(changed)}, 'diff counts')
    again = replay_lines('diff', data, '--from', ','.join(f'{s}:{i}' for s, i in middle.items()),
                         '--json', '--memory', '1', expect=1)
    by_key = lambda told: sorted(told[:-1], key=lambda d: d['key']) + told[-1:]
    check(by_key(again) == by_key(between), 'diff in several passes')


def test_continue(data, work, lines):
    """An export that stops and goes on gives every event once."""
    place, out = work / 'place.json', work / 'part.jsonl'
    middle = ','.join(f'{s}:{max(e["index"] for e in lines if e["shard"] == s) // 3}'
                      for s in (0, 1))
    replay('export', data, '-q', '--continue', place, '-o', out, '--to', middle)
    replay('export', data, '-q', '--continue', place, '-o', out)
    replay('export', data, '-q', '--continue', place, '-o', out)
    got = [json.loads(line) for line in out.read_text().splitlines()]
    order = lambda e: (e['shard'], e['index'], e['subject'], e['version'])
    check(sorted(map(order, got)) == sorted(map(order, lines)), 'an export goes on where it was')
    table = ('export', data, '-q', '-f', 'csv', '-o', work / 'part.csv', '--continue',
             work / 'csv.json', '--fields', 'shard,index')
    replay(*table, '--to', middle)
    replay(*table)
    rows = (work / 'part.csv').read_text().splitlines()
    check(len(rows) == len(lines) + 1 and rows.index('shard,index') == 0 and
          rows.count('shard,index') == 1, 'one heading, where the file begins')
    # A place goes before --from; one that lies behind what is committed by now is not set back.
    replay('export', data, '-q', '--continue', work / 'now.json', '-o', work / 'now.jsonl',
           '--to', middle)
    follow = ('export', data, '-q', '--follow', '--until', '1s', '--from', 'now', '--continue',
              work / 'now.json', '-o', work / 'now.jsonl')
    replay(*follow)
    check(len((work / 'now.jsonl').read_text().splitlines()) == len(lines), 'behind the place')
    kept = json.loads((work / 'now.json').read_text())
    for shard in kept['shards']:
        shard['index'] += 100
    (work / 'now.json').write_text(json.dumps(kept))
    replay(*follow)
    check(json.loads((work / 'now.json').read_text())['shards'] == kept['shards'],
          'a place is not set back')


def msgpack_value(raw, at):
    """The value at raw[at] and where it ends: what jumun writes of msgpack, and no more."""
    head = raw[at]
    at += 1

    def number(size, signed=False):
        return int.from_bytes(raw[at:at + size], 'big', signed=signed), at + size

    def several(count, at, pairs):
        values = []
        for _ in range(count * (2 if pairs else 1)):
            value, at = msgpack_value(raw, at)
            values.append(value)
        return (dict(zip(values[::2], values[1::2])) if pairs else values), at

    if head < 0x80:
        return head, at
    if head >= 0xe0:
        return head - 256, at
    if head < 0xa0:
        return several(head & 15, at, head < 0x90)
    if head < 0xc0 or head in (0xd9, 0xda, 0xdb):
        size, at = (head & 31, at) if head < 0xc0 else number(1 << (head - 0xd9))
        return raw[at:at + size].decode(), at + size
    if head in (0xc4, 0xc5, 0xc6):
        size, at = number(1 << (head - 0xc4))
        return raw[at:at + size], at + size
    if 0xcc <= head <= 0xd3:
        return number(1 << ((head - 0xcc) % 4), head >= 0xd0)
    if head in (0xdc, 0xdd, 0xde, 0xdf):
        count, at = number(2 << (head & 1))
        return several(count, at, head >= 0xde)
    return {0xc0: None, 0xc2: False, 0xc3: True}[head], at


def as_json(value):
    """A msgpack value as export writes it into JSON."""
    if isinstance(value, dict):
        return {k: as_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [as_json(v) for v in value]
    if isinstance(value, bytes):
        if len(value) != 16:
            return {'hex': value.hex()}
        bits = int.from_bytes(value, 'big')
        return ''.join(ALPHABET[bits >> 5 * i & 31] for i in range(25, -1, -1))
    return value


def test_msgpack(data, work):
    """What is exported as msgpack are the same events as the JSON lines, whole or in part."""
    for more in ((), ('--messages',), ('--fields', 'index,store,info.total,info.lines,action')):
        out = work / 'events.mp'
        replay('export', data, '-q', '-f', 'msgpack', '-o', out, *more)
        raw, at, events = out.read_bytes(), 0, []
        while at < len(raw):
            event, at = msgpack_value(raw, at)
            events.append(as_json(event))
        check(events == replay_lines('export', data, '-q', *more),
              f'msgpack {more}: {len(events)} events decode to what they are')
        again = replay_lines('republish', data, '-q', *more)
        check(len(again) == len(events), 'as many are republished')


def test_fields(data):
    """Every field that an event has may be asked for, and no other."""
    events = replay_lines('export', data, '-q', '--messages')
    names = {'info.' + n for e in events for n in e['info']} | {n for e in events for n in e}
    names = sorted(names - {'info'})
    check(len(names) > 40, f'the log has most of the fields: {names}')
    some = replay_lines('export', data, '-q', '--messages', '--fields', ','.join(names))
    whole = [{k: v for k, v in e.items() if v != {}} for e in events]
    check(some == whole, 'all fields together are the whole')
    for field in ('info.x', 'info.', 'info', 'totl', 'infototal'):
        told = replay('export', data, '--fields', f'index,{field}', expect=2)
        check(f'"{field}" is no field' in told.stderr and not told.stdout, f'refused: {field}')
    check('info.total, ' in replay('export', data, '--fields', 'info.x', expect=2).stderr,
          'and told which there are')


def test_follow(work):
    """An export that follows a running node has every event once, in the end, and the same from its
    feed; stopped in between, it goes on."""
    data, out, place = work / 'followed', work / 'followed.jsonl', work / 'followed.json'
    node = Node(data, '--shards', '2')
    key = lambda e: (e['shard'], e['index'], e['subject'], e['version'])

    def follow(*arguments):
        return subprocess.Popen([REPLAY, 'export', *map(str, arguments), '-q', '--follow'],
                                stderr=subprocess.PIPE, text=True)

    def wait_for(path, orders):
        for _ in range(600):
            text = path.read_text() if path.exists() else ''
            if sum('"order_placed"' in line for line in text.splitlines()) >= orders:
                return
            time.sleep(0.1)
        check(False, f'{path.name}: {orders} orders do not come')

    def place_orders(count):
        for _ in range(count):
            node.jumun('place', '--store', 's1', '--currency', 'KRW', '--fulfilment', 'pickup',
                       '--line', 'x:1:5')

    def end(process):
        process.send_signal(signal.SIGINT)
        check(process.wait(60) == 0, f'it ends with Ctrl-C: {process.stderr.read()}')
        process.stderr.close()

    place_orders(5)
    feed_out, late_out = work / 'feed.jsonl', work / 'late.jsonl'
    first = follow(data, '-o', out, '--continue', place)
    feed = follow(node.endpoint, '-o', feed_out)
    wait_for(out, 5)
    wait_for(feed_out, 5)
    late = follow(data, '-o', late_out, '--from', 'now', '--store', 's1')
    early = 5
    while not late_out.exists() or late_out.stat().st_size == 0:  # "now" is when it has begun
        check(late.poll() is None and early < 1000, 'what follows from now on is told of an order')
        place_orders(1)
        early += 1
        time.sleep(0.1)
    place_orders(20)
    wait_for(out, early + 20)
    end(first)
    place_orders(10)
    second = follow(data, '-o', out, '--continue', place)
    wait_for(out, early + 30)
    wait_for(feed_out, early + 30)
    wait_for(late_out, 31)
    for process in (second, feed, late):
        end(process)
    whole = sorted(map(key, replay_lines('export', data, '-q')))
    for path in (out, feed_out):
        got = [json.loads(line) for line in path.read_text().splitlines()]
        check(sorted(map(key, got)) == whole, f'{path.name} has every event once')
    check(replay('export', data, '-q', '--follow', '--until', '1s').stdout ==
          replay('export', data, '-q').stdout, 'it ends with --until')
    replay('export', data, '--until', '1s', expect=2)
    replay('export', data, '--follow', '--to', '-1s', expect=2)
    node.stop()
    shutil.rmtree(data)


def test_ages(data):
    """What is shown of a moment is as old as it was then."""
    order = max(replay_lines('state', data, '--all', '--json', '-q'), key=lambda o: o['updated_ms'])
    shards = replay_json('history', data, order['key'])
    for at in (f'@{order["updated_ms"]}', f'{shards["shard"]}:{order["last_index"]}'):
        for ask in ('show', 'state'):
            text = replay(ask, data, order['key'], '--at', at).stdout
            line = next((x for x in text.splitlines() if 'last change' in x), text)
            check(line.endswith('(now)'), f'{ask} --at {at}: as it was just then: {line}')
    line = next(x for x in replay('show', data, order['key']).stdout.splitlines()
                if 'last change' in x)
    check(line.endswith(' ago)'), f'else by the time of day: {line}')


def test_rebuild(data, work, hashes):
    target = work / 'rebuilt'
    lost = work / 'lost'
    shutil.copytree(data, lost)
    (lost / 'node.json').unlink()
    for shard in lost.glob('shard-*'):
        shutil.rmtree(shard / 'state')
        shutil.rmtree(shard / 'vote')
    replay('rebuild', lost, target, '--node-id', '1')
    check(replay_json('verify', target, '--against', data)['sound'], 'a rebuilt directory')
    check([s['hash'] for s in replay_json('hash', target)['shards']] ==
          [s['hash'] for s in hashes['shards']], 'its hash is the same')
    replay('rebuild', lost, target, expect=3)  # not into one that holds something
    node = Node(target)
    key = next(o['key'] for o in replay_lines('state', data, '--all', '--json', '-q'))
    check(node.jumun('--json', 'get', key) != '', 'a node starts from it')
    node.jumun('place', '--store', 's1', '--currency', 'KRW', '--fulfilment', 'pickup', '--line',
               'x:1:5')
    node.stop()
    check(replay_json('verify', target)['sound'], 'and goes on with it')
    shutil.rmtree(lost)
    shutil.rmtree(target)


def test_live_and_restore(work):
    """Beside a loaded node: no false alarm; backups that grow; 20 moments restored."""
    rng = random.Random(SEED)
    data, backup = work / 'live', work / 'backup'
    node = Node(data, '--shards', '2', '--checkpoint-age-ms', '300')
    bench, runs = node.bench(5, '--batch', '8'), 0
    while bench.poll() is None or runs < 5:
        if bench.poll() is not None:  # a slow machine looks at it less often in this time
            bench = node.bench(5, '--batch', '8')
        report = replay_json('verify', data)
        check(report['sound'], f'live: {report["faults"][:3]}')
        if runs % 3 == 1:
            replay('backup', data, backup, '-q', *(['--base'] if runs == 4 else []))
            report = replay_json('verify', backup)
            check(report['sound'], f'a backup of a loaded node: {report["faults"][:3]}')
        runs += 1
    node.stop()
    replay('backup', data, backup, '-q')
    check(replay_json('verify', backup)['sound'], 'a backup is sound')
    check(replay_json('backup', data, backup)['shards'][0]['records'] == 0, 'nothing is left')
    refused = subprocess.run([JUMUND, '--data', backup, '--listen', 'tcp://127.0.0.1:0'],
                             capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    check(refused.returncode != 0 and 'is a backup' in refused.stderr, 'no node runs on a backup')
    lines = replay_lines('export', backup, '-q', '--fields',
                         'shard,index,time_ms,subject,version,action,state,info.total,'
                         'info.captured,info.refunded,info.refund_owed')
    for e in lines:
        e.setdefault('info', {})
    times = sorted({e['time_ms'] for e in lines})
    for i in range(20):
        moment = rng.randint(times[0] + 1, times[-1])
        target = work / f'restored-{i}'
        done = replay('restore', backup, target, '--to', f'@{moment}', '--json', expect=None)
        if done.returncode == 4:  # before a shard's first entry
            continue
        check(done.returncode == 0, f'restore to {moment}: {done.stderr}')
        cuts = {s['shard']: s['index'] for s in json.loads(done.stdout)['shards']}
        for s in cuts:
            latest = max((e['index'] for e in lines if e['shard'] == s and
                          e['time_ms'] <= moment), default=0)
            check(latest - 40 <= cuts[s] <= latest + 2, f'the cut {cuts[s]} lies at {latest}')
        check(replay_json('verify', target)['sound'], f'restored to {moment} is sound')
        same_as_model(target, cuts, lines)
        if i % 7 == 0:
            node = Node(target)
            node.jumun('place', '--store', 's1', '--currency', 'KRW', '--fulfilment', 'pickup',
                       '--line', 'x:1:5')
            time.sleep(0.4)
            node.stop()
            check(replay_json('verify', target)['sound'], 'a restored node goes on')
        shutil.rmtree(target)
    shutil.rmtree(data)
    shutil.rmtree(backup)


def ends_of_messages(source):
    """(from, to) -> the newest number that was sent, that was seen."""
    sent, seen = {}, {}
    for e in replay_lines('export', source, '-q', '--messages', '--kind',
                          'message_sent,message_seen', '--fields',
                          'shard,action,info.peer,info.sequence'):
        pair, table = (e['shard'], e['info']['peer']), sent
        if e['action'] == 'message_seen':
            pair, table = pair[::-1], seen
        table[pair] = max(table.get(pair, 0), e['info']['sequence'])
    return sent, seen


def test_restore_from_a_base(work):
    """A backup whose logs begin later than its shards: what stands in the stored state alone, and
    messages that were on their way, come back with it."""
    rng = random.Random(SEED)
    data, backup = work / 'short', work / 'short-backup'
    for seconds in ('1', '3'):  # the first base is of a node that was stopped
        node = Node(data, '--shards', '2', '--checkpoint-age-ms', '200')
        bench = subprocess.Popen([BENCH, '-e', node.endpoint, '-s', seconds, '--warmup', '0',
                                  '--live', '300', '--batch', '8', '--in-flight', '2', '-q'],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while bench.poll() is None:
            if seconds != '1':
                replay('backup', data, backup, '-q', '--base')
            time.sleep(0.7)
        node.stop()
        replay('backup', data, backup, '-q', '--base')
    lines = replay_lines('export', backup, '-q', '--fields',
                         'shard,index,time_ms,subject,version,action,state,info.total,'
                         'info.captured,info.refunded,info.refund_owed')
    for e in lines:
        e.setdefault('info', {})
    # As retention leaves it: nothing is left of what a base has.
    for shard in backup.glob('shard-*'):
        base = min(int(p.name[5:]) for p in shard.glob('base-*'))
        subprocess.run([DAMAGE, 'front', str(shard), str(base + 1)], check=True,
                       stdout=subprocess.DEVNULL)
        (shard / 'log-00000000000000000001').rename(shard / f'log-{base + 1:020}')
    last = {s: max(e['index'] for e in lines if e['shard'] == s) for s in (0, 1)}
    begin = {int(p.name[6:]): int(next(p.glob('log-*')).name[4:])
             for p in backup.glob('shard-*')}
    restored = 0
    for i in range(4):
        # One shard far behind the other: many messages are on their way.
        at = {s: rng.randint(begin[s] + 1, last[s]) for s in (0, 1)}
        at[i % 2] = last[i % 2]
        target = work / f'based-{i}'
        done = replay('restore', backup, target, '--to', f'0:{at[0]},1:{at[1]}', '--json',
                      expect=None)
        if done.returncode == 4 and 'is neither in the log' in done.stderr:
            continue  # said, not lost in silence
        check(done.returncode == 0, f'restore to {at}: {done.stderr}')
        if done.returncode != 0:
            continue
        restored += 1
        cuts = {s['shard']: s['index'] for s in json.loads(done.stdout)['shards']}
        same_as_model(target, cuts, lines)
        check(replay_json('verify', target)['sound'], f'restored to {at} is sound')
        node = Node(target, '--checkpoint-age-ms', '200')
        node.jumun('place', '--store', 's1', '--currency', 'KRW', '--fulfilment', 'pickup',
                   '--line', 'x:1:5')
        for _ in range(300):
            sent, seen = ends_of_messages(target)
            if all(seen.get(pair, 0) >= number for pair, number in sent.items()):
                break
            time.sleep(0.1)
        else:
            check(False, f'restored to {at}: {sent} were sent, only {seen} seen')
        node.stop()
        check(replay_json('verify', target)['sound'], 'a node goes on from a base')
        shutil.rmtree(target)
    check(restored > 0, 'none of 4 could be restored')
    shutil.rmtree(data)
    shutil.rmtree(backup)


def test_base_that_retention_passed(work):
    """A first run of a backup that was stopped leaves a stored state; by the next one the log may
    begin behind it. Another one is taken, for nothing goes on from the first."""
    data, backup = work / 'passed', work / 'passed-backup'
    node = Node(data, '--shards', '1', '--checkpoint-age-ms', '200')
    node.bench(1).wait(PATIENCE_S)
    node.rest()
    replay('backup', data, backup, '-q', '--base')
    (backup / 'backup.json').unlink()
    for path in (backup / 'shard-0').iterdir():
        if path.is_file():
            path.unlink()
        elif not path.name.startswith('base-'):
            shutil.rmtree(path)
    base = int(next((backup / 'shard-0').glob('base-*')).name[5:])
    node.bench(1).wait(PATIENCE_S)
    node.rest()
    node.stop()
    begin, log = base + 2, data / 'shard-0' / 'log-00000000000000000001'
    subprocess.run([DAMAGE, 'front', str(data / 'shard-0'), str(begin)], check=True,
                   stdout=subprocess.DEVNULL)
    log.rename(log.with_name(f'log-{begin:020}'))
    (data / 'shard-0' / 'journal').unlink(missing_ok=True)
    replay('backup', data, backup, '-q')
    replay('restore', backup, work / 'passed-restored', '-q')
    orders = [{o['key']: (o['state'], o['version']) for o in
               replay_lines('state', made, '--all', '--json', '-q')}
              for made in (data, work / 'passed-restored')]
    check(orders[0] and orders[0] == orders[1], f'restored: {[len(o) for o in orders]} orders')
    for path in (data, backup, work / 'passed-restored'):
        shutil.rmtree(path)


def test_what_if(data, lines):
    same = replay_lines('what-if', data, '--rules', RULES, '--json')
    orders = {e['subject'] for e in lines if not e['action'].startswith('store_')}
    check(same[-1]['differ'] == 0 and same[-1]['causes'] > 1000 and
          same[-1]['orders'] == len(orders), f'the same rules: {same[-1]}, {len(orders)} orders')
    found = replay_lines('what-if', data, '--rules', CHANGED, '--json', expect=1)
    small = replay_lines('what-if', data, '--rules', CHANGED, '--json', '--memory', '1', expect=1)
    by_key = lambda told: sorted(told[:-1], key=lambda d: d['key']) + told[-1:]
    check(by_key(small) == by_key(found), 'the same with hardly any memory')
    # The planted rule: no cancel by the customer once the order is paid.
    wanted = {e['subject'] for e in lines
              if e['action'] in ('order_cancelled', 'lines_cancelled') and e['info']['by'] == 1
              and e['cause_kind'] == 'cancel' and before_of(lines, e) == 'paid'}
    check(wanted, 'the log holds causes that the planted rule judges otherwise')
    check({d['key'] for d in found[:-1]} == wanted,
          f'exactly these differ: {len(found) - 1}, {len(wanted)}')
    check(all(d['refused_name'] == 'not_allowed_in_state' for d in found[:-1]), 'as refusals')


def before_of(lines, event):
    return next((e['state'] for e in lines if e['subject'] == event['subject'] and
                 e['version'] == event['version'] - 1), None)


def stories(lines):
    """The kinds of events of each order, by the part of its key that a play keeps: a command that
    overtook its order would be held, and would be seen here."""
    orders = {}
    for e in lines:
        if not e['action'].startswith('store_'):
            orders.setdefault(e['subject'][-16:], []).append(e['action'])
    return orders


def test_play(data, work, lines):
    into = work / 'played'
    node = Node(into, '--shards', '2')
    report = replay_json('play', data, '--speed', 'max', '--into', node.endpoint)
    node.stop()
    check(report['unanswered'] == 0 and report['not_sent'] == 0, f'play: {report}')
    got = replay_lines('export', into, '-q')
    states = lambda events: sorted((o['state'], o['total'], o['captured'])
                                   for o in model(events).values())
    check(states(got) == states(lines), 'a played log comes to the same orders')
    came, was = stories(got), stories(lines)
    differ = [key for key in sorted(came.keys() | was.keys()) if came.get(key) != was.get(key)]
    check(not differ, f'by the same events: {len(differ)} orders differ, such as ' +
          '; '.join(f'{key}: {came.get(key)}, not {was.get(key)}' for key in differ[:3]))
    shutil.rmtree(into)


def test_fixtures(work):
    """Logs of every format that ever was: read by each later build, to the same state."""
    for archive in sorted(Path(ROOT, 'tests', 'fixtures').glob('*.tar.gz')):
        with tarfile.open(archive) as tar:
            tar.extractall(work / 'fixture')
        data = next((work / 'fixture').iterdir())
        report = replay_json('verify', data, '--against', str(archive)[:-7] + '.json')
        check(report['sound'], f'{archive.name}: {report["faults"][:3]}')
        shutil.rmtree(work / 'fixture')


def tests(work):
    with beside(test_restore_from_a_base, work):
        tests_of_one_log(work)
    test_base_that_retention_passed(work)
    test_live_and_restore(work)


def tests_of_one_log(work):
    data = work / 'data'
    node = Node(data, '--shards', '2')
    load(node)
    node.stop()
    hashes = test_sound(data)
    lines = replay_lines('export', data, '-q')
    test_questions(data, lines)
    test_msgpack(data, work)
    test_fields(data)
    test_ages(data)
    test_follow(work)
    test_continue(data, work, lines)
    test_damage(data, work)
    test_random_bits(data, work)
    test_rebuild(data, work, hashes)
    test_what_if(data, lines)
    test_play(data, work, lines)
    test_fixtures(work)


if __name__ == '__main__':
    sys.exit(verdict('replay', tests))
