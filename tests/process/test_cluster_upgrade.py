#!/usr/bin/env python3
"""A rolling upgrade.

  test_cluster_upgrade.py JUMUND JUMUN JUMUND-NEXT JUMUN-REPLAY

Under load the nodes are replaced by those of the next version, one after the other, and one of them
is put back. Nothing is written that the older ones cannot read before the level is raised, and an
older one is refused after that.
"""
import subprocess
import sys
import threading
import time

from cluster_of_nodes import JUMUN, JUMUND, PATIENCE, check, cluster, form


class Load(threading.Thread):
    """Places orders until it is stopped; each of them has to succeed."""

    def __init__(self, c, endpoints):
        super().__init__()
        self.c, self.endpoints = c, ','.join(endpoints)
        self.done, self.failure = threading.Event(), None

    def run(self):
        while not self.done.is_set() and not self.failure:
            run = subprocess.run([JUMUN, '--endpoint', self.endpoints, '--timeout', '30s',
                                  '--quiet', 'place', '--store', 'store-1', '--currency', 'KRW',
                                  '--line', 'a:1:100'], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, check=False)
            if run.returncode == 0:
                self.c.keys.append(run.stdout.strip())
            else:
                self.failure = run.stdout + run.stderr

    def placed_more(self, count=5):
        wanted, until = len(self.c.keys) + count, time.time() + PATIENCE
        while len(self.c.keys) < wanted:
            check(not self.failure, 'an order is placed: %s' % self.failure)
            check(time.time() < until, 'orders are placed')
            time.sleep(0.02)

    def stop(self):
        self.done.set()
        self.join()
        check(not self.failure, 'all orders were placed: %s' % self.failure)


def upgrade(c):
    following, replay = sys.argv[3:5]

    def restart(place, program):
        check(c.end(place) == 0, 'node %d stops in order' % (place + 1))
        check('ready' in c.start(place, program=program), 'node %d serves' % (place + 1))
        load.placed_more()

    def old_tool_reads(place):
        run = subprocess.run([replay, 'verify', c.data(place)], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, check=False)
        return run.returncode == 0, run.stdout

    for place in range(3):
        check('waiting' in c.start(place), 'a node waits')
    form(c, range(3), '--shards', '2')
    load = Load(c, [c.url(p) for p in range(3)])
    load.start()
    try:
        load.placed_more()
        check('already' in c.jumun('cluster', 'raise-level'), 'there is nothing to raise')
        restart(0, following)
        nodes = c.status()['nodes']
        check([n['level_max'] for n in nodes] == [2, 1, 1], 'what each node can is told')
        check([n['version'] == 'next' for n in nodes] == [True, False, False], 'and its version')
        check(c.status()['level'] == 1, 'nothing is raised by itself')
        check('not all nodes' in c.jumun('cluster', 'raise-level', '2', expect=1), 'refused')
        restart(1, following)
        restart(0, JUMUND)                  # back again, while two of three are new
        restart(2, following)
        restart(0, following)
        check(c.end(0) == 0, 'it stops in order')
        good, told = old_tool_reads(0)
        check(good, 'the older version reads all that was written: ' + told)
        check('does not say' in c.jumun('cluster', 'raise-level', expect=3), 'all must be heard')
        check('ready' in c.start(0, program=following), 'it is back')
        c.jumun('cluster', 'raise-level')
        check(c.status()['level'] == 2, 'the level is raised')
        load.placed_more(20)
        check(c.end(0) == 0, 'it stops in order')
        check(c.start(0) == '', 'the older version does not start')
        check(c.end(0) == 3, 'and says so by its status')
        log = open(c.data(0) + '.log').read()
        check('the cluster is at level 2, and this program' in log, 'and by a sentence')
        check('waiting' in c.start(3), 'an older one waits')
        check('the cluster is at 2' in c.jumun('cluster', 'add', c.url(3), at=1, expect=1),
              'and cannot join')
        check('ready' in c.start(0, program=following), 'the newer one serves')
        load.placed_more()
    finally:
        load.stop()
    c.end(3)
    c.all_orders_are_there()
    check(c.end(0) == 0, 'it stops in order')
    good, told = old_tool_reads(0)
    check(not good, 'what is written now is of the new form: ' + told)


def main():
    with cluster('upgrade') as c:
        upgrade(c)


main()
