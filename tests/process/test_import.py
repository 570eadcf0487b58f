#!/usr/bin/env python3
"""jumun import and the tokens of jumun watch, with real nodes and replicas, for who gets something
wrong: snapshots are given back, a copy goes on only as it was begun, a file loses nothing, two
clusters are not mixed up, and times are what they say.

  test_import.py JUMUND JUMUN_REPLICA JUMUN
"""
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from replica_process import (PATIENCE, Lone, await_that, check, exactly, folder, message, packb,
                             ports, unpack)

ORDERS = 1700
SNAPSHOTS_MAX = 4


class Jumun:
    def __init__(self, program, cluster, work):
        self.program, self.work = program, work
        self.environment = {**os.environ, 'JUMUN_ENDPOINT': cluster.endpoint, 'TZ': 'UTC',
                            'JUMUN_REPLICA': cluster.url, 'NO_COLOR': '1'}

    def begin(self, *words, out=subprocess.PIPE):
        return subprocess.Popen([self.program, *words], stdout=out, stderr=subprocess.PIPE,
                                cwd=self.work, env=self.environment, text=True)

    def __call__(self, *words, expect=0, says=''):
        """-> its output; `says`: what stderr must have."""
        run = self.begin('--timeout', '60s', *words)
        out, error = run.communicate(timeout=PATIENCE)
        if run.returncode != expect or says not in error:
            sys.exit(f'FAILED: {" ".join(words)}: {run.returncode}, not {expect}; wanted: {says}\n'
                     + out[-2000:] + error[-2000:])
        return out

    def place(self):
        return self('-q', 'place', '--store', 's1', '--currency', 'KRW', '--line',
                    'a:1:100').strip()

    def path(self, name):
        return os.path.join(self.work, name)

    def lines(self, name):
        with open(self.path(name), encoding='utf-8') as f:
            return f.read().splitlines()

    def tokens(self, name):
        with open(self.path(name), encoding='utf-8') as f:
            return json.load(f)

    def copy_some(self, tokens, *words):
        """A slow copy, as soon as its tokens tell of a page of 500 orders."""
        copy = self.begin('import', '--full', '--rate', '150', '--tokens', tokens, *words,
                          out=subprocess.DEVNULL)
        await_that(lambda: os.path.exists(self.path(tokens)) and
                   self.tokens(tokens)['rows'] > 0, 'the copy never came to a page')
        return copy

    def slow_copy(self, cluster, *words):
        """A slow copy, as soon as its snapshot is there."""
        before = cluster.snapshots()
        copy = self.begin('-q', 'import', '--full', '--rate', '100', *words,
                          out=subprocess.DEVNULL)
        await_that(lambda: cluster.snapshots() > before, 'no snapshot was made')
        return copy


def end(process, number):
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    check(process.returncode == -number, f'it ended by signal {number}: {process.returncode}')
    return error


def snapshots_are_given_back(jumun, cluster):
    with open(jumun.path('keep.jsonl'), 'w', encoding='utf-8') as f:
        f.write('mine\n')
    jumun('import', '--full', '--fields', 'key,colour', '--output', 'keep.jsonl', expect=1,
          says='no field of the name "colour"')
    check(jumun.lines('keep.jsonl') == ['mine'], 'a refused copy left the file alone')
    jumun('import', '--full', '--fields', 'key,colour', '--output', 'none.jsonl', expect=1)
    check(not os.path.exists(jumun.path('none.jsonl')), 'nor does it make one')
    check(cluster.snapshots() == 0, 'a refused copy gave its snapshot back')
    for number in (signal.SIGINT, signal.SIGTERM):
        end(jumun.slow_copy(cluster), number)
        check(cluster.snapshots() == 0, 'a stopped copy gave its snapshot back')


def copies_are_killed(jumun, cluster):
    for _ in range(SNAPSHOTS_MAX):
        end(jumun.slow_copy(cluster), signal.SIGKILL)
    check(cluster.snapshots() == SNAPSHOTS_MAX, 'nobody could give those back')


def a_killed_copy_makes_room(jumun):
    copies = []

    def copied():
        copies.append(jumun.begin('-q', 'import', '--full', '--output', 'late.jsonl'))
        _, error = copies[-1].communicate(timeout=PATIENCE)
        check(copies[-1].returncode == 0 or 'which is the limit' in error and
              'try again in ' in error, 'it tells why and when to come back: ' + error)
        return copies[-1].returncode == 0
    await_that(copied, 'no killed copy made room')
    check(len(jumun.lines('late.jsonl')) == ORDERS, 'the copy is whole')


def a_reader_may_have_seen_enough(jumun, cluster):
    command = '"$0" import --full 2>head.err | head -n 1 >head.out'
    subprocess.run(['sh', '-c', command, jumun.program], cwd=jumun.work, env=jumun.environment,
                   check=True, timeout=PATIENCE)
    check(len(jumun.lines('head.out')) == 1, 'head got its line')
    check(not any('jumun:' in line for line in jumun.lines('head.err')), 'nothing failed')
    await_that(lambda: cluster.snapshots() == 0, 'its snapshot was given back')
    jumun('import', '--full', '--output', '/dev/full', expect=4, says='No space left')
    check(cluster.snapshots() == 0, 'a copy without room gave its snapshot back')


def a_copy_goes_on_as_it_was_begun(jumun, cluster):
    error = end(jumun.copy_some('go.tokens', '--output', 'go.csv', '--format', 'csv'),
                signal.SIGTERM)
    check('The same command goes on there' in error, 'it tells how to go on: ' + error)
    for words, says in (
            (['--output', 'go.csv'], 'begun with --format csv and all fields to '),
            (['--output', 'go.csv', '--format', 'csv', '--fields', 'key,state'],
             'this is --format csv --fields key,state'),
            (['--output', 'other.csv', '--format', 'csv'], 'other.csv. Go on as it was begun'),
            (['--format', 'csv'], 'standard output'),
            (['--output', 'go.csv', '--format', 'csv', '--replica', 'tcp://127.0.0.1:1'],
             f'begun at {cluster.url}')):
        jumun('import', '--full', '--tokens', 'go.tokens', *words, expect=4, says=says)
    jumun('import', '--full', '--tokens', 'go.tokens', '--output', 'go.csv', '--format', 'csv',
          says='going on behind ')
    rows = jumun.lines('go.csv')
    check(len(rows) == ORDERS + 1 and len(set(rows)) == len(rows), 'each order is there once')
    check(cluster.snapshots() == 0, 'its snapshot was given back')


def standard_output_cannot_be_gone_on_with(jumun, cluster):
    end(jumun.copy_some('pipe.tokens'), signal.SIGINT)
    check(cluster.snapshots() == 0, 'its snapshot was given back')
    jumun('import', '--full', '--tokens', 'pipe.tokens', expect=4,
          says='cannot be gone on with: begin anew with --restart')
    out = jumun('import', '--full', '--tokens', 'pipe.tokens', '--restart')
    check(len(out.splitlines()) == ORDERS, 'a copy that begins anew is whole')
    # The file of a copy was cut meanwhile.
    end(jumun.copy_some('cut.tokens', '--output', 'cut.jsonl'), signal.SIGKILL)
    with open(jumun.path('cut.jsonl'), 'w', encoding='utf-8'):
        pass
    jumun('import', '--full', '--tokens', 'cut.tokens', '--output', 'cut.jsonl', expect=4,
          says='fewer than the ')
    jumun('import', '--full', '--tokens', 'cut.tokens', '--output', 'cut.jsonl', '--restart')
    check(len(jumun.lines('cut.jsonl')) == ORDERS, 'a copy that begins anew is whole')
    check(cluster.snapshots() == 0, 'the old snapshot was given back too')


def changes_go_behind_what_is_there(jumun):
    csv = ['--format', 'csv', '--fields', 'key,state']
    jumun('import', '--full', '--tokens', 'c.tokens', '--output', 'c.csv', *csv)
    more = ['import', '--since', '@c.tokens', '--tokens', 'c.tokens']
    for n in (1, 2):
        key = jumun.place()
        jumun(*more, '--output', 'c.csv', *csv, says='1 order changed')
        rows = jumun.lines('c.csv')
        check(len(rows) == ORDERS + 1 + n and rows[-1] == key + ',placed', 'it is behind the rest')
        check(rows.count('key,state') == 1, 'one heading')
    jumun(*more, '--output', 'c.csv', expect=4, says='this is --format jsonl and all fields')
    # A run that was killed in the midst of a line.
    before = jumun.tokens('c.tokens')
    key = jumun.place()
    with open(jumun.path('c.csv'), 'a', encoding='utf-8') as f:
        f.write(key[:7])
    with open(jumun.path('c.tokens'), 'w', encoding='utf-8') as f:
        json.dump({**before, 'writing': True}, f)
    jumun(*more, '--output', 'c.csv', *csv)
    check(jumun.lines('c.csv')[-2:] == [rows[-1], key + ',placed'], 'the torn line went')
    # A first one that fails leaves no tokens; one that fails behind it leaves those that were.
    first = ['import', '--since', '1h', '--tokens', 'first.tokens', '--output', 'first.jsonl']
    failing = [*first, '--fields', 'key,colour']
    jumun(*failing, expect=1, says='no field of the name "colour"')
    check(not os.path.exists(jumun.path('first.tokens')), 'no tokens without changes')
    check(not os.path.exists(jumun.path('first.jsonl')), 'and no file of these')
    jumun(*first)
    before, changes = jumun.tokens('first.tokens'), jumun.lines('first.jsonl')
    jumun(*failing, '--restart', expect=1)
    check(jumun.tokens('first.tokens') == before, 'older tokens stay')
    check(jumun.lines('first.jsonl') == changes and changes, 'and so does what came with them')
    # A file of its own for changes; then one that these tokens know nothing of.
    before = jumun.tokens('c.tokens')
    jumun.place()
    jumun(*more, '--output', 'new.csv', *csv, expect=4, says='c.csv, and this is to ')
    jumun(*more, *csv, expect=4, says='is to standard output: --append')
    check(jumun.tokens('c.tokens') == before, 'its tokens have not moved')
    jumun(*more, '--output', 'new.csv', '--append', *csv)
    jumun.place()
    jumun(*more, '--output', 'new.csv', *csv)
    check(len(jumun.lines('new.csv')) == 3, 'a heading and two orders')
    jumun(*more, '--output', 'c.csv', *csv, expect=4, says='--append writes there from now on')
    jumun('import', '--since', '1h', '--output', 'new.csv', expect=4, says='--restart empties it')
    check(len(jumun.lines('new.csv')) == 3, 'nothing was lost')
    key = jumun.place()
    jumun(*more, '--output', 'new.csv', '--append', *csv)
    check(jumun.lines('new.csv')[-1] == key + ',placed' and len(jumun.lines('new.csv')) == 4,
          'it is behind the rest')
    jumun(*more, '--output', 'new.csv', '--restart', *csv)
    check(jumun.lines('new.csv') == ['key,state'], 'it was emptied')
    jumun('import', '--full', '--append', expect=2)
    # What the tokens tell of is not there any more: behind a gap nothing is written. A file that
    # was taken away begins anew.
    jumun.place()
    jumun(*more, '--output', 'short.jsonl', '--append')
    os.truncate(jumun.path('short.jsonl'), 10)
    key = jumun.place()
    jumun(*more, '--output', 'short.jsonl', expect=4, says='has 10 bytes, fewer than the ')
    check(os.path.getsize(jumun.path('short.jsonl')) == 10, 'and is left alone')
    os.remove(jumun.path('short.jsonl'))
    jumun(*more, '--output', 'short.jsonl', '--fields', 'key')
    check(jumun.lines('short.jsonl') == [json.dumps({'key': key}, separators=(',', ':'))],
          'what came since')


def headings_stand_where_the_output_begins(jumun, cluster):
    key = jumun.place()
    command = ('"$0" -q import --since 1h --format csv --fields key >>h.csv; '
               '"$0" -q import --since 1h --format csv --fields key >>h.csv')
    subprocess.run(['sh', '-c', command, jumun.program], cwd=jumun.work, env=jumun.environment,
                   check=True, timeout=PATIENCE)
    rows = jumun.lines('h.csv')
    check(rows[0] == 'key' and rows.count('key') == 1 and rows.count(key) == 2, 'one heading')
    out = jumun('import', '--since', '1h', '--format', 'csv', '--fields', 'key', '--no-heading')
    check(out.splitlines()[0] != 'key', 'no heading')
    check(cluster.url in jumun('-q', 'lag').splitlines()[0], 'lag -q has no heading')
    out = jumun('-q', 'orders', '--key', key)
    check(len(out.splitlines()) == 1 and out.startswith(key), 'orders -q has no heading')
    check(len(jumun('orders', '--key', key).splitlines()) == 2, 'orders has one')


def a_dead_replica_is_told_where_nothing_changed(jumun):
    later = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() + 7200))
    dead = f'tcp://127.0.0.1:{ports.pick(1)}'
    jumun('import', '--since', later, '--replica', dead, expect=3, says=dead)
    check(jumun('import', '--since', later) == '', 'nothing changed')
    url = jumun.environment['JUMUN_REPLICA']
    check(jumun('import', '--since', later, '--replica', f'{dead},{url}') == '', 'one is there')


def times_are_what_they_say(jumun):
    now = time.time()
    iso = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now - 3600))
    later = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now + 7200))
    all_orders = len(jumun('import', '--since', '0:0,1:0').splitlines())
    check(all_orders > ORDERS, 'all orders are behind the beginning')
    for word in (iso, iso + 'Z', iso + '.25Z', iso + '+00:00', iso[:10], '1h',
                 str(int(now * 1000) - 3600000)):
        out = jumun('import', '--since', word, '--fields', 'key')
        check(len(out.splitlines()) == all_orders, f'--since {word}')
        out = jumun('-q', 'orders', '--state', 'placed', '--from', word, '--limit', '0')
        check(len(out.splitlines()) == all_orders, f'orders --from {word}')
    check(jumun('import', '--since', later) == '', 'nothing of the future')
    check(jumun('-q', 'orders', '--state', 'placed', '--to', iso) == '', 'nothing before')
    jumun('import', '--since', '90', expect=2, says='90ms or 90s')
    jumun('orders', '--state', 'placed', '--from', '90', expect=2, says='90ms or 90s')
    jumun('stats', '--last', '5', expect=2, says='5ms or 5s')
    jumun('ping', '--timeout', '90', expect=2, says='90ms or 90s')
    jumun('import', '--since', '2026-02-29', expect=2, says='no time such as')


class FakeNode:
    """A node's general endpoint and its feed in one: a log of entries FIRST to 60, all of them
    decided now, none of which is an order's."""
    CLUSTER = 'f' * 32

    def __init__(self, first):
        self.first, self.listener = first, socket.create_server(('127.0.0.1', 0))
        self.url = f'tcp://127.0.0.1:{self.listener.getsockname()[1]}'
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection = self.listener.accept()[0]
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, s):
        try:
            exactly(s, 8)
            s.sendall(bytes.fromhex('0053500000310000'))
            while True:
                asked = message(s)
                reply = asked[:4] + self.answer(unpack(asked[4:], 0)[0])
                s.sendall(struct.pack('>Q', len(reply)) + reply)
        except (ConnectionError, OSError):
            s.close()

    def answer(self, asked):
        if len(asked) == 3:     # SHARD_MAP, in the envelope of the commands
            return (b'\x93\x01\x00\x91\x96' + b'\x00' * 5 + b'\x81' + packb('feed') +
                    packb(self.url))
        kind = asked[1]
        if kind == 300:
            return (b'\x93\x01\x00\x82' + packb('cluster_id') + packb(self.CLUSTER) +
                    packb('shards') + packb([[0, self.first, 60]]))
        if kind == 302:
            return packb([1, 0, 0, self.first, 60, self.CLUSTER])
        if asked[3] < self.first:
            return packb([1, 20, 'the log does not reach back', self.first, self.CLUSTER])
        return packb([1, 0, 0, asked[3], 61, 60, 0, [], [], self.CLUSTER])


def a_log_that_begins_too_late_is_told(jumun):
    """By time: what is older than a log's first entry may have changed, too."""
    short, whole = FakeNode(50), FakeNode(1)
    since = ['import', '--since', '1h', '--replica', 'tcp://127.0.0.1:1', '--endpoint']
    jumun(*since, short.url, expect=1, says='The log does not reach back so far')
    # The log's answer is looked at first, then that the replica is missed.
    jumun(*since, f'{short.url},{whole.url}', expect=3, says='nothing listens there')
    jumun(*since, whole.url, expect=3, says='nothing listens there')


def shards_are_named(jumun):
    jumun('import', '--since', '0:3', expect=2, says='shard 1 is not named')
    jumun('import', '--since', '0:3,1:3,7:3', expect=2, says='there is no shard 7')
    jumun('watch', 'store/s1', '--since', '0:3', expect=2, says='shard 1 is not named')
    jumun('watch', 'store/s1', '--since', '0:3,1:3,7:3', expect=2, says='there is no shard 7')
    jumun('watch', 'store/s1', '--since', '0:3,1:99999', expect=1,
          says='shard 1 has come to ')
    jumun('watch', 'store/s1', '--count', '0', expect=2, says='at least 1')
    with open(jumun.path('far.tokens'), 'w', encoding='utf-8') as f:
        json.dump({'tokens': [[0, 99999], [1, 1]], 'done': True}, f)
    jumun('watch', 'store/s1', '--tokens', 'far.tokens', expect=1, says='the token says 99999')


def tokens_belong_to_their_command(jumun):
    jumun('import', '--full', '--tokens', 'own.tokens', '--output', 'own.jsonl')
    key = jumun.place()
    jumun('watch', f'order/{key}', '--since', '0:0,1:0', '--count', '1', '--tokens', 'seen.tokens')
    imported, seen = jumun.tokens('own.tokens'), jumun.tokens('seen.tokens')
    jumun('watch', f'order/{key}', '--tokens', 'own.tokens', expect=4,
          says='own.tokens keeps the place of jumun import --full: give this command a file')
    for wrong in (f'order/{key[:-1]}', 'store/s1'):
        jumun('watch', wrong, '--tokens', 'seen.tokens', expect=4,
              says=f'seen.tokens keeps the place of jumun watch order/{key}: ')
    for words in (['--full'], ['--full', '--restart'], ['--since', '@seen.tokens']):
        jumun('import', *words, '--tokens', 'seen.tokens', '--output', 'seen.jsonl', expect=4,
              says=f'seen.tokens keeps the place of jumun watch order/{key}: ')
    check(jumun.tokens('own.tokens') == imported and jumun.tokens('seen.tokens') == seen,
          'none has moved')
    # Whoever only reads them may: a position is a position.
    jumun('import', '--since', '@seen.tokens', '--tokens', 'own.tokens', '--output', 'own.jsonl')
    check(jumun.tokens('own.tokens')['command'] == 'import --since', 'a copy goes on by changes')


def two_clusters_are_told_apart(jumun, one, other):
    jumun('import', '--full', '--tokens', 'one.tokens', '--output', 'one.jsonl')
    mine = jumun.tokens('one.tokens')
    check(len(mine['cluster']) == 32, 'the tokens tell whose they are')
    since = ['import', '--since', '@one.tokens']
    jumun('import', '--since', '1h', '--replica', other.url, expect=1,
          says=f'but the replica at {other.url} of cluster')
    jumun(*since, '--replica', f'{one.url},{other.url}', expect=1, says='of one cluster')
    jumun(*since, '--endpoint', other.endpoint, '--replica', other.url, expect=1,
          says=f'one.tokens is of cluster {mine["cluster"]}, but the node at {other.endpoint}')
    with open(jumun.path('watch.tokens'), 'w', encoding='utf-8') as f:
        json.dump({'tokens': mine['tokens'], 'cluster': mine['cluster']}, f)
    jumun('watch', 'store/s1', '--tokens', 'watch.tokens', '--replica', other.url, expect=1,
          says='watch.tokens is of cluster')
    jumun('import', '--since', '1h', '--endpoint', one.url, expect=2,
          says='a replica answers there, not a node')
    jumun('import', '--since', '0s', '--replica', one.endpoint, expect=2,
          says='a node answers there, not a replica')
    # Without an id, as older versions wrote them.
    with open(jumun.path('older.tokens'), 'w', encoding='utf-8') as f:
        json.dump({'tokens': mine['tokens'], 'done': True}, f)
    key = jumun.place()
    out = jumun('import', '--since', '@older.tokens', '--tokens', 'older.tokens')
    check(key in out and len(out.splitlines()) == 1, 'older tokens are read')
    check(jumun.tokens('older.tokens')['cluster'] == mine['cluster'], 'and told whose they are')


def main(*programs):
    jumund, replica, program = map(os.path.abspath, programs)
    with folder('import') as work:
        one = Lone(work, 'one', jumund, replica)
        other = Lone(work, 'other', jumund, replica)
        jumun = Jumun(program, one, work)
        with open(f'{work}/orders.csv', 'w', encoding='utf-8') as f:
            f.write('store,currency,lines\n' + 's2,KRW,a:1:100\n' * ORDERS)
        jumun('-q', 'place', '--csv', 'orders.csv')
        # What is killed there is missed after half a minute, while all others are at work here.
        there = Jumun(program, other, work)
        there('-q', 'place', '--csv', 'orders.csv')
        copies_are_killed(there, other)
        snapshots_are_given_back(jumun, one)
        a_reader_may_have_seen_enough(jumun, one)
        a_copy_goes_on_as_it_was_begun(jumun, one)
        standard_output_cannot_be_gone_on_with(jumun, one)
        changes_go_behind_what_is_there(jumun)
        headings_stand_where_the_output_begins(jumun, one)
        times_are_what_they_say(jumun)
        a_dead_replica_is_told_where_nothing_changed(jumun)
        a_log_that_begins_too_late_is_told(jumun)
        shards_are_named(jumun)
        tokens_belong_to_their_command(jumun)
        two_clusters_are_told_apart(jumun, one, other)
        a_killed_copy_makes_room(there)
        print('each copy went on as it was begun, and none was lost')


if __name__ == '__main__':
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
