#!/usr/bin/env python3
"""jumun-replay over the network: the feed of a live node says what its directory says, in every
command; a node that goes away is gone on with; logs that were cut; nodes that differ. And
events sent again to a receiver: the one that stands in docs/protocol.md, as it stands there.

  test_replay_remote.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH RULES PAGE
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402
from pack import packb, unpackb  # noqa: E402

import replay_process  # noqa: E402
from replay_process import REPLAY, beside, check, replay, replay_json, verdict  # noqa: E402

RULES, PAGE = sys.argv[5:7]
EVENTS_MIN = 8000           # several messages of republished events
PORTS_A_NODE = 10


def free_port():
    """A port that stays free with the ones around it, which a node takes as well."""
    return ports.pick(PORTS_A_NODE) + 3


class Node(replay_process.Node):
    """A node at an address that it keeps over restarts."""

    def __init__(self, data, *options):
        super().__init__(data, '--checkpoint-age-ms', '300', *options,
                         listen=f'tcp://127.0.0.1:{free_port()}')

    def feed(self):
        return json.loads(self.jumun('status', '--json'))['feed']['endpoint']

    def place(self, store='s1'):
        return self.jumun('place', '--store', store, '--currency', 'KRW', '--fulfilment', 'pickup',
                          '--line', 'bibimbap:2:9500')


def events_of(node):
    status = json.loads(node.jumun('status', '--json'))
    return sum(shard['events'] for shard in status['shards'])


def load(node):
    for _ in range(60):  # a busy machine does less in a second
        check(node.bench(1).wait() == 0, 'the load went through')
        if events_of(node) > EVENTS_MIN:
            break
    keys = [node.place(f's{i % 2}') for i in range(4)]
    node.jumun('pay', keys[0], '19000', '--reference', 'pg-1')
    node.jumun('cancel', keys[0], '--by', 'customer')
    node.jumun('store', 'pause', 's1', '--reason', 'fire drill')
    return keys


def without(report, *names):
    return {k: v for k, v in report.items() if k not in names}


def told(done):
    """What was printed, without how long ago it all was."""
    return [line for line in done.stdout.split('\n') if ' ago' not in line]


def test_same_as_directory(data, node, keys):
    """Every question has the same answer, whether the directory or the feed is asked."""
    endpoint = node.endpoint
    here = replay_json('verify', data, '--hash', '--log-only')
    there = replay_json('verify', endpoint, '--hash')
    check(there['sound'] and there['shards'][0]['events'] > 0, f'sound: {there["faults"][:3]}')
    names = ('seconds', 'shards')
    check(without(here, *names) == without(there, *names), f'verify: {there}')
    for a, b in zip(here['shards'], there['shards'], strict=True):
        check(a == b, f'verify: {a} {b}')
    check(replay_json('hash', data) == replay_json('hash', endpoint), 'hash')
    check(replay_json('hash', node.feed()) == replay_json('hash', data), 'the feed itself')
    at = ','.join(f'{s["shard"]}:{s["index"] // 2}' for s in there['shards'])
    check(replay_json('hash', data, '--at', at) == replay_json('hash', endpoint, '--at', at),
          'hash at an index')
    times = [e['time_ms'] for e in map(json.loads, replay('export', data, '-q').stdout.split('\n')
                                       [:-1])]
    middle = f'@{times[len(times) // 2]}'
    cases = [('show', keys[0]), ('show', keys[1]), ('state', keys[0], '--json'),
             ('state', keys[0]), ('history', keys[0], '--timeline'),
             ('history', keys[2], '--at', 'now'), ('export',), ('export', '--from', middle),
             ('export', '--to', middle),
             ('export', '--store', 's1', '-f', 'csv', '--fields', 'index,subject,store'),
             ('export', '--order', keys[0]), ('republish', '--kind', 'order_placed'),
             ('export', '--shard', '1', '--messages')]
    for command, *rest in cases:
        a, b = replay(command, data, *rest, '-q'), replay(command, endpoint, *rest, '-q')
        check(told(a) == told(b) and a.stdout, f'{command} {rest}: {len(a.stdout)} bytes of the '
                                               f'directory, {len(b.stdout)} of the feed')
    for command, *rest in [('state', '--all', '--json'), ('state', '--stores', '--json'),
                           ('diff', '--from', middle, '--json')]:
        code = 1 if command == 'diff' else 0
        a = replay(command, data, *rest, '-q', expect=code)
        b = replay(command, endpoint, *rest, '-q', expect=code)
        check(sorted(a.stdout.split('\n')) == sorted(b.stdout.split('\n')), f'{command}')
    a, b = replay_json('stats', data), replay_json('stats', endpoint)
    check(a == b, 'stats')
    same = replay('what-if', endpoint, '--rules', RULES)
    check('0 would differ' in same.stderr, f'what-if: {same.stderr}')


def test_errors(data, node, work):
    gone = replay('verify', f'tcp://127.0.0.1:{free_port()}', expect=3)
    check('refused' in gone.stderr, f'nobody there: {gone.stderr}')
    check('no shard 9' in replay('export', node.endpoint, '--shard', '9', expect=4).stderr, 'shard')
    check('such as tcp://' in replay('hash', 'ws://127.0.0.1:1', expect=3).stderr, 'scheme')
    check('--tls-ca' in replay('hash', 'tls+tcp://127.0.0.1:1', expect=3).stderr, 'tls')
    replay('show', node.endpoint, '01M7YHG7G67Q0GS17Q4ZVFARY4', expect=4)
    for command in ('rebuild', 'restore'):
        made = replay(command, node.endpoint, work / 'never', expect=3)
        check('a directory is made of a directory' in made.stderr, f'{command}: {made.stderr}')
    bare = Node(work / 'bare', '--feed-listen', 'none')
    none = replay('verify', bare.endpoint, expect=3)
    check('no feed' in none.stderr, f'no feed: {none.stderr}')
    other = replay('hash', f'{node.endpoint},{bare.endpoint}', expect=3)
    check(bare.endpoint in other.stderr, 'two nodes, one without a feed')
    bare.stop()
    shutil.rmtree(work / 'bare')
    check(replay_json('hash', f'{node.endpoint},{node.feed()}') == replay_json('hash', data),
          'two addresses, read as one')


def test_play(node, work):
    into = Node(work / 'into', '--shards', '2')
    report = replay_json('play', node.endpoint, '--speed', 'max', '--into', into.endpoint, '--from',
                         '0:1,1:1', '--to', '0:40,1:40')
    check(report['unanswered'] == 0 and report['not_sent'] == 0, f'play: {report}')
    check(replay_json('verify', into.endpoint)['sound'], 'what was played is sound')
    into.stop()
    shutil.rmtree(work / 'into')


def test_nodes_that_differ(data, node, work):
    """Two nodes with one past: equal, then each with a record of its own in the same place."""
    node.stop()
    shutil.copytree(data, work / 'twin')
    node.start()
    twin = Node(work / 'twin')
    report = replay_json('verify', node.endpoint, '--against', twin.endpoint, '--against',
                         work / 'twin')
    check(report['sound'] and len(report['against']) == 4 and
          all(one['equal'] for one in report['against']), f'twins: {report}')
    check(replay_json('diff', node.endpoint, twin.endpoint) == {'differences': 0}, 'twins')
    key = replay('export', data, '--kind', 'order_placed', '--store', 's0', '-f', 'csv', '--fields',
                 'subject', '-q').stdout.split()[1]
    node.jumun('annotate', key, 'here')
    twin.jumun('annotate', key, 'there: not the same')
    for other in (twin.endpoint, work / 'twin'):
        report = replay_json('verify', node.endpoint, '--against', other, expect=1)
        check([f['kind'] for f in report['faults']] == ['hash_differs'], f'differ: {report}')
        check('is the first one that differs' in report['faults'][0]['what'], 'where they differ')
        for memory in ('256', '1'):  # in one pass over the logs, and in several
            done = replay('diff', node.endpoint, other, '--json', '-q', '--memory', memory,
                          expect=1)
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            check([line.get('key') for line in lines] == [key, None], f'differ: {lines}')
    done = replay('diff', data, twin.endpoint, '-q', expect=1)
    check(done.stdout.startswith(key), f'a directory and a node: {done.stdout}')
    twin.stop()
    shutil.rmtree(work / 'twin')


def test_node_goes_away(data, node):
    """Killed in the middle of an export, and started again: not an event is missing or twice."""
    fields = ('--fields', 'index,time_ms,subject,version,action')
    wanted = replay('export', data, '-q', *fields).stdout
    reader = subprocess.Popen([REPLAY, 'export', node.endpoint, '-q', '--patience', '120s',
                               *fields], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begin = reader.stdout.read(1 << 16)
    node.stop(signal.SIGKILL)
    time.sleep(0.5)
    node.start()
    rest, told = reader.communicate(timeout=200)
    check(reader.returncode == 0 and (begin + rest).decode() == wanted,
          f'{len(begin) + len(rest)} bytes over a restart, not {len(wanted)}: {told[-300:]}')
    reader = subprocess.Popen([REPLAY, 'export', node.endpoint, '--patience', '2s', *fields],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    reader.stdout.read(1 << 16)
    node.stop(signal.SIGKILL)
    rest, told = reader.communicate(timeout=200)
    check(reader.returncode == 3 and b'the node is away' in told, f'away for good: {told}')
    check(b'trying again for up to 2 s' in told, f'that it waits is told: {told}')
    node.start()


def test_live(node):
    """Beside a loaded node: no false alarm, and Ctrl-C ends it."""
    for _ in range(3):
        bench = node.bench(2)
        while bench.poll() is None:
            report = replay_json('verify', node.endpoint)
            check(report['sound'], f'live: {report["faults"][:3]}')
        check(bench.returncode == 0, 'the load went through')
    stopped = subprocess.Popen([REPLAY, 'verify', node.endpoint], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    node.process.send_signal(signal.SIGSTOP)  # it answers nothing any more
    stopped.send_signal(signal.SIGINT)
    code = stopped.wait(60)
    node.process.send_signal(signal.SIGCONT)
    check(code in (130, -signal.SIGINT, 0, 3), f'interrupted: {code}')


def test_cut_log(data, node, work):
    """Retention took the beginning: folds begin with the state that the node gives."""
    key = node.place()
    whole = replay_json('hash', node.endpoint)
    node.stop()
    segments = sorted((data / 'shard-0').glob('log-*'))
    check(len(segments) > 1, f'{len(segments)} segments')
    shutil.rmtree(segments[0])
    node.start()
    scratch = work / 'scratch'
    scratch.mkdir()
    index = whole['shards'][0]['index']
    hashed = replay_json('hash', node.endpoint, '--scratch', scratch)
    check(hashed['shards'][0]['index'] >= index, f'{hashed}, not {whole}')
    check(hashed == replay_json('hash', data), 'the hash of the directory')
    check(not list(scratch.iterdir()), 'nothing stays in the scratch directory')
    report = replay_json('verify', node.endpoint, '--against', data)
    check(report['sound'] and report['shards'][0]['first'] > 1, f'cut: {report}')
    check(key in replay('state', node.endpoint, '--all', '-q').stdout, 'all orders')
    early = replay('hash', node.endpoint, '--at', '5', expect=4)
    check('at the earliest' in early.stderr, f'before the state: {early.stderr}')


# -- events again, to a receiver ----------------------------------------------------------------

def page_receiver():
    msgpack = types.ModuleType('msgpack')
    msgpack.packb, msgpack.unpackb = packb, unpackb
    sys.modules['msgpack'] = msgpack
    scope = {}
    blocks = re.findall(r'```python\n(.*?)```', Path(PAGE).read_text(encoding='utf-8'), re.S)
    exec(next(block for block in blocks if 'class Receiver' in block), scope)
    return scope['Receiver']


def inbox(receiver, **overridden):
    """A receiver of the page that keeps what it takes; `address` is where it listens."""
    taken, port = [], overridden.pop('port', None) or free_port()
    kind = type('Inbox', (receiver,), {})
    for name, function in overridden.items():
        setattr(kind, name, function)
    made = kind(taken.extend, '127.0.0.1', port)
    made.taken, made.calls, made.address = taken, 0, f'tcp://127.0.0.1:{port}'
    return made


def as_json(event):
    """An event of a message, with its ids as the lines of an export show them."""
    def text(value):
        if not isinstance(value, bytes) or len(value) != 16:
            return value.hex() if isinstance(value, bytes) else value
        number, letters = int.from_bytes(value, 'big'), ''
        for _ in range(26):
            letters = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'[number & 31] + letters
            number >>= 5
        return letters
    return {name: text(value) for name, value in event.items() if name != 'info'}


def without_info(lines):
    return [{k: v for k, v in json.loads(line).items() if k != 'info'} for line in lines if line]


def test_republish(data, node, work):
    receiver = page_receiver()
    wanted = without_info(replay('republish', data, '-q').stdout.split('\n'))
    check(len(wanted) > 6000, f'{len(wanted)} events make too few messages')
    # All events, from the feed; and the run is over.
    here = inbox(receiver)
    report = replay_json('republish', node.endpoint, '--into', here.address, '-q')
    check([as_json(e) for e in here.taken] == wanted, f'{len(here.taken)} of {len(wanted)} events')
    check(all(e['republished'] is True for e in here.taken), 'each is marked')
    check(report['events'] == len(wanted) and report['whole'] and len(here.ended) == 1 and
          report['messages'] == here.newest[next(iter(here.ended))], f'{report}')
    # One order's, and one kind's.
    key = wanted[5]['subject']
    for words, name, value in [(('--order', key), 'subject', key),
                               (('--kind', 'order_placed'), 'action', 'order_placed')]:
        here = inbox(receiver)
        replay('republish', data, *words, '--into', here.address)
        check([as_json(e) for e in here.taken] == [e for e in wanted if e[name] == value],
              f'{words}: {len(here.taken)} events')
    # Nobody there yet; then connections that break before and behind the taking, and refusals.
    port = free_port()
    says = work / 'says'
    with open(says, 'w', encoding='utf-8') as out:
        sender = subprocess.Popen([REPLAY, 'republish', str(data), '--patience', '120s', '--into',
                                   f'tcp://127.0.0.1:{port}'], stderr=out)
    until = time.monotonic() + 100
    while 'does not answer' not in says.read_text() and time.monotonic() < until:
        time.sleep(0.05)

    def answer(self, message):
        self.calls += 1
        if self.calls in (2, 6):
            raise ConnectionError
        if self.calls == 4:
            return [1, 2, 'not now', 20]
        told = receiver.answer(self, message)
        if self.calls in (5, 9):
            raise ConnectionError
        return told
    here = inbox(receiver, port=port, answer=answer)
    sender.wait(200)
    told = says.read_text()
    check(sender.returncode == 0 and [as_json(e) for e in here.taken] == wanted,
          f'{len(here.taken)} events over broken connections: {told}')
    check(here.calls > 9 and len(here.ended) == 1, f'{here.calls} messages')
    check('does not answer' in told and 'events acknowledged by' in told, f'what is told: {told}')
    # A receiver that has enough: what it has acknowledged is not sent again.
    place = work / 'place.json'
    here = inbox(receiver, answer=lambda self, message: receiver.answer(self, message)
                 if message[3] < 4 else [1, 60, 'the disk is gone'])
    done = replay('republish', data, '--into', here.address, '--continue', place, expect=3)
    check('the disk is gone [60]' in done.stderr, f'refused: {done.stderr}')
    check(not here.ended and 0 < len(here.taken) < len(wanted), f'{len(here.taken)} events')
    again = inbox(receiver)
    replay('republish', data, '--into', again.address, '--continue', place)
    first, second = ([as_json(e) for e in one.taken] for one in (here, again))
    check(first == wanted[:len(first)] and second == wanted[len(wanted) - len(second):] and
          len(first) + len(second) >= len(wanted), f'{len(first)} and {len(second)} events')
    check(len(first) + len(second) < len(wanted) + 1024, 'hardly any comes twice')
    last = replay_json('republish', data, '--into', again.address, '--continue', place, '-q')
    check(last['events'] == 0 and last['messages'] == 1, f'nothing is left: {last}')
    gone = replay('republish', data, '--into', f'tcp://127.0.0.1:{free_port()}', '--patience',
                  '300ms', expect=3)
    check('nobody is there' in gone.stderr and '0 events' in gone.stderr, f'{gone.stderr}')
    replay('republish', data, '--into', 'tls+tcp://x:1', expect=3)
    replay('republish', data, '--into', here.address, '-o', work / 'x', expect=2)
    replay('export', data, '--into', here.address, expect=2)


def test_long_log(work):
    data = work / 'long'
    node = Node(data, '--shards', '1', '--segment-bytes', '64M')
    try:
        for _ in range(60):
            check(node.bench(2, '--lines', '64').wait() == 0, 'the load went through')
            if len(list((data / 'shard-0').glob('log-*'))) > 1:
                break
        node.rest()
        test_node_goes_away(data, node)
        test_cut_log(data, node, work)
    finally:
        node.stop(signal.SIGKILL)
    shutil.rmtree(data)


def tests(work):
    data = work / 'data'
    node = Node(data, '--shards', '2')
    try:
        keys = load(node)
        node.rest()
        with beside(test_long_log, work):
            test_same_as_directory(data, node, keys)
            test_errors(data, node, work)
            test_play(node, work)
            test_nodes_that_differ(data, node, work)
            test_republish(data, node, work)
        test_live(node)
    finally:
        if node.process.poll() is None:
            node.process.send_signal(signal.SIGCONT)
            node.stop(signal.SIGKILL)


if __name__ == '__main__':
    sys.exit(verdict('replay-remote', tests))
