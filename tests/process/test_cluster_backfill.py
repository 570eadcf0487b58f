#!/usr/bin/env python3
"""A node alone that has orders becomes one of three. The others begin with its stored state, and
fetch the log in front of that: in the end their directories and feeds hold the same history as
that of the first one.

  test_cluster_backfill.py JUMUND JUMUN JUMUN_BENCH JUMUN_REPLAY CASE

where CASE is one of

filled  orders are placed while they fetch it.
killed  one fetches slowly, and is killed (-9) twice meanwhile: it goes on where it was.
"""
import signal
import subprocess
import sys

from cluster_of_nodes import PATIENCE, check, cluster, form

BENCH, REPLAY, CASE = sys.argv[3:6]
SHARDS, LATE = 2, 2                   # the node that is looked at and killed
HISTORY_BYTES = 12 << 20              # of each shard, before the others come
SLOW = ('--catch-up-rate', '256K')    # a minute and more, for two kills on its way


def start(c, place, *options, alone=False):
    feed = c.url(place).rsplit(':', 1)
    return c.start(place, '--feed-listen', '%s:%d' % (feed[0], int(feed[1]) + 40),
                   '--checkpoint-age-ms', '100', '--catch-up-log', '1M', *options, alone=alone)


def load(c, places, seconds):
    done = subprocess.run(
        [BENCH, '--endpoint', ','.join(map(c.url, places)), '--seconds', str(seconds), '--warmup',
         '0', '--live', '2000', '--timeout-ms', '60000', '--quiet'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=c.env, check=False)
    check(done.returncode == 0, 'the load went through: %s%s' % (done.stdout, done.stderr))


def rows(c, place):
    return c.rows(place, SHARDS)


def settled(c, places):
    """Whether these have all that was committed, and checkpoints of nearly all of it."""
    seen = [rows(c, p) for p in places]
    for shard in range(SHARDS):
        of = [r for s in seen for r in s if r['shard'] == shard]
        if len(of) < len(places) or len({r['commit_index'] for r in of}) > 1:
            return False
        if any(r['applied_index'] < r['commit_index'] or
               r['checkpoint_index'] + 100 < r['commit_index'] for r in of):
            return False
    return True


def lacking(c, place=LATE):
    return sum(r['gap_records'] for r in rows(c, place))


def grow_up_alone(c):
    check('ready' in start(c, 0, '--shards', str(SHARDS), alone=True), 'a node alone serves')
    for _ in range(PATIENCE):
        load(c, (0,), 1)
        seen = rows(c, 0)
        if seen and min(r['log_bytes'] for r in seen) > HISTORY_BYTES:
            break
    c.place_orders(2)
    check(c.end(0) == 0, 'it stops in order')


def replay(*words):
    run = subprocess.run([REPLAY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, timeout=3 * PATIENCE, check=False)
    check(run.returncode == 0, 'jumun-replay %s: %s%s' % (' '.join(words), run.stdout[-2000:],
                                                         run.stderr[-2000:]))
    return run.stdout


def said(c, what):
    return open(c.data(LATE) + '.log').read().count(what)


def kill_while_it_fills(c):
    """Twice; what it has stays."""
    left = lacking(c)
    for _ in range(2):
        before = left
        c.await_that(lambda: 0 < lacking(c) < before, 'some of the gap is filled')
        c.end(LATE, signal.SIGKILL)
        check('ready' in start(c, LATE, *SLOW), 'the node starts behind a kill')
        left = lacking(c)
        check(0 < left < before, '%d of %d records lack behind the kill' % (left, before))
    c.end(LATE)
    start(c, LATE)


def become_three(c):
    for place in range(3):
        slow = SLOW if CASE == 'killed' and place == LATE else ()
        check('waiting' in start(c, place, *slow), 'a node waits')
    form(c, range(3))
    if CASE == 'killed':
        c.await_that(lambda: lacking(c) > 0, 'it lacks what was before')
        kill_while_it_fills(c)
    else:
        load(c, range(3), 2)
    for place in (1, 2):
        c.await_that(lambda: len(rows(c, place)) == SHARDS and lacking(c, place) == 0,
                     'its gaps are filled')
    c.place_orders(2)
    c.await_that(lambda: settled(c, range(3)), 'all three agree')
    for r in rows(c, 1) + rows(c, 2):
        check(r['gaps'] == 0 and r['log_first'] == 1, 'the history is whole: %s' % r)
    check(all(not s.get('gaps') for s in c.status()['shards']), 'nor is one told')
    check(said(c, 'is filled') >= SHARDS, 'its log says so')


def hash_of(source):
    """Of all shards. A lead that changes behind the last order adds a record, and no more."""
    return [(shard, digest, actors) for shard, _, digest, actors
            in map(str.split, replay('hash', source, '--quiet').splitlines())]


def compare(c):
    hashes = [hash_of(c.url(LATE))]
    for place in range(3):
        check(c.end(place) == 0, 'a node stops')
        hashes.append(hash_of(c.data(place)))
        replay('verify', c.data(place), '--quiet')
    check(all(h == hashes[0] for h in hashes), 'the hashes are one: %s' % hashes)
    for place in (0, 1):
        replay('verify', c.data(LATE), '--against', c.data(place), '--quiet')


def main():
    with cluster('backfill') as c:
        grow_up_alone(c)
        become_three(c)
        compare(c)


main()
