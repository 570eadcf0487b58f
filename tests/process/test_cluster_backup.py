#!/usr/bin/env python3
"""Backups of a running cluster's members end at now, and never in what the cluster drops.

  test_cluster_backup.py JUMUND JUMUN JUMUN_BENCH JUMUN_REPLAY

Three nodes under load, whose stored states stay where they are: without being asked, a node's
directory says nothing of what is newest. Of each node a backup is made, found by the address and by
the directory; it has every order that was acknowledged and settled there before it began. Then the
leader loses both others while it takes orders: what it appends there is never committed, and its
backup has nothing of it, as the two others' log tells afterwards.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from cluster_of_nodes import PATIENCE, check, cluster, form

BENCH, REPLAY = sys.argv[3:5]
SHARDS, ORDERS = 2, 12
OPTIONS = ('--checkpoint-age-ms', '3600000')


def replay(*words, expect=0):
    run = subprocess.run([REPLAY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, timeout=PATIENCE, check=False)
    check(run.returncode == expect, 'jumun-replay %s: %d, not %d: %s%s' % (
        ' '.join(words), run.returncode, expect, run.stdout[-2000:], run.stderr[-2000:]))
    return run


def load(c, seconds, *options):
    return subprocess.Popen(
        [BENCH, '--endpoint', ','.join(c.url(p) for p in sorted(c.nodes)), '--mode', 'open',
         '--rate', '400', '--seconds', str(seconds), '--warmup', '0', '--live', '400', '--json',
         '--quiet', *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=c.env)


def rows(c, place):
    found = c.rows(place, SHARDS)
    check(len(found) == SHARDS, 'node %d tells of its shards' % (place + 1))
    return found


def settled_everywhere(c):
    """All that is acknowledged by now is known to be settled at each node, in a moment."""
    ends = [max(r['commit_index'] for r in shard)
            for shard in zip(*(rows(c, p) for p in sorted(c.nodes)))]
    c.await_that(lambda: all(r['settled_index'] >= end for p in sorted(c.nodes)
                             for r, end in zip(rows(c, p), ends)), 'nodes settle what is committed')


def back_up(c, place, name, *options):
    """Made and proved; returns what the run brought, and the restored directory."""
    backup = os.path.join(c.folder, name)
    run = replay('backup', c.data(place), backup, '--json', *options)
    told = json.loads(run.stdout)
    check(told['settled'], 'the node tells how far its log is settled: ' + run.stderr)
    replay('verify', backup, '--quiet')
    shutil.rmtree(backup + '-restored', ignore_errors=True)
    replay('restore', backup, backup + '-restored', '--quiet')
    replay('verify', backup + '-restored', '--quiet')
    return told, backup + '-restored'


def holds(made, keys):
    out = replay('state', made, '--all', '--json', '--quiet').stdout
    found = {json.loads(line)['key'] for line in out.splitlines()}
    return set(keys) - found


def under_load(c):
    bench = load(c, 40, '--timeout-ms', '60000')
    time.sleep(1)
    for turn in range(2):                   # a second run adds what came since
        c.place_orders(ORDERS)
        settled_everywhere(c)
        keys = list(c.keys)
        for place in range(3):
            named = ('--node', c.url(place)) if turn == 0 else ()
            told, made = back_up(c, place, 'backup-%d' % place, *named)
            lost = holds(made, keys)
            check(not lost, 'node %d, run %d: of %d orders acknowledged before %d are missing' % (
                place + 1, turn + 1, len(keys), len(lost)))
            check(all(s['records'] > 0 for s in told['shards']), 'something is new: %s' % told)
    check(bench.poll() is None, 'all that under load')
    bench.kill()
    bench.communicate()


def refusals(c):
    """Another node, another directory, a copy of this one, nobody."""
    backup = os.path.join(c.folder, 'refused')
    run = replay('backup', c.data(0), backup, '--node', c.url(1), expect=3)
    check('is node 2 of cluster' in run.stderr, run.stderr)
    run = replay('backup', c.data(0), backup, '--node', 'tcp://127.0.0.1:1', expect=3)
    copy = os.path.join(c.folder, 'copy')
    os.mkdir(copy)
    for name in ('node.json', 'cluster.msgpack', 'lock'):
        shutil.copy(os.path.join(c.data(0), name), copy)
    for shard in range(SHARDS):
        shutil.copytree(os.path.join(c.data(0), 'shard-%d' % shard),
                        os.path.join(copy, 'shard-%d' % shard))
    c.place_orders(ORDERS)                  # of which the copy has nothing
    run = replay('backup', copy, backup, '--node', c.url(0), expect=3)
    check('which is not in ' + copy in run.stderr, run.stderr)
    with open(os.path.join(copy, 'lock'), 'w') as lock:
        lock.write('{"run": "%s", "endpoint": "%s"}' % ('0' * 32, c.url(0)))
    run = replay('backup', copy, backup, '--node', c.url(0), expect=3)
    check('is not the node that runs on' in run.stderr, run.stderr)
    run = replay('backup', copy, backup)    # nobody is asked, and that is said
    check('the copy ends with what the stored state covers' in run.stderr, run.stderr)
    check(not os.path.exists(os.path.join(backup, 'node.json')), 'it is a backup')


def dropped(c):
    """What a leader has that lost its majority is in its log, and not in its backup."""
    c.end(2, signal.SIGKILL)
    c.await_that(lambda: all(s['leader'] in (1, 2) for s in c.status()['shards']), 'two are left')
    lead = c.status()['shards']
    place = next(s['leader'] for s in lead if not s['meta']) - 1
    other = 1 - place
    bench = load(c, 20, '--timeout-ms', '1000')
    time.sleep(1)
    c.end(other, signal.SIGKILL)
    c.await_that(lambda: any(r['last_index'] > r['settled_index'] + r['unsettled']
                             for r in rows(c, place)), 'what is not committed is in a log')
    alone = rows(c, place)
    made = back_up(c, place, 'alone', '--node', c.url(place))[1]
    backup = made[:-len('-restored')]
    bench.kill()
    bench.communicate()
    after = rows(c, place)
    check(any(a['last_index'] > s['settled_index'] for a, s in zip(alone, after)),
          'it was in the log all the time: %s' % [(r['last_index'], r['settled_index'])
                                                 for r in after])
    c.end(place, signal.SIGKILL)
    for p in (other, 2):
        c.start(p, *OPTIONS, wait=False)
    c.await_that(lambda: all(s['leader'] for s in c.status()['shards']), 'the others lead')
    c.place_orders(2 * ORDERS, store='store-2')
    settled_everywhere(c)
    c.start(place, *OPTIONS)
    c.await_that(lambda: len(c.rows(place, SHARDS)) == SHARDS, 'it is back')
    settled_everywhere(c)
    for p in range(3):
        check(c.end(p) == 0, 'node %d stops in order' % (p + 1))
    for p in range(3):
        run = replay('verify', backup, '--against', c.data(p))
        print(run.stdout.splitlines()[-2:])
    # A stopped node tells nothing, and its stored state reflects all that it has.
    run = replay('backup', c.data(place), backup, '--json')
    check(not json.loads(run.stdout)['settled'], 'nobody is asked')
    shutil.rmtree(made)
    replay('restore', backup, made, '--quiet')
    check(not holds(made, c.keys), 'all orders are there')


def main():
    with cluster('backup') as c:
        for place in range(3):
            check('waiting' in c.start(place, *OPTIONS), 'a node waits')
        form(c, range(3), '--shards', str(SHARDS))
        under_load(c)
        refusals(c)
        dropped(c)


main()
