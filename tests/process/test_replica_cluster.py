#!/usr/bin/env python3
"""A replica of three nodes under load. Each node is killed (-9) and comes back while the replica
goes on with the feeds of the others, and the replica is killed too; then its disk is full for a
while. In the end it must hold exactly what a replica holds that was made from the logs from
scratch, and its tokens must never have gone back.

  test_replica_cluster.py JUMUND JUMUN_REPLICA JUMUN_BENCH
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from test_replica_kill import Program, ask, everything, ports, tokens

NODES = 3
PATIENCE = 120
DISK = '48m'            # of the replica, at first


def check(good, what):
    if not good:
        sys.exit('FAILED: ' + what)


def await_that(holds, what):
    until = time.monotonic() + PATIENCE
    while not holds():
        check(time.monotonic() < until, what)
        time.sleep(0.05)


def committed(endpoints):
    """What all nodes together have: by shard, the newest committed index."""
    newest = {}
    for endpoint in endpoints:
        status = ask(endpoint, [1, None, [[102, None, None]]])[2][0][5]
        for shard in status['shards']:
            number = shard['shard']
            newest[number] = max(newest.get(number, 0), shard['commit_index'])
    return newest


def replica_status(url):
    return ask(url, [1, 0, [[102]]])[2][0][5]


class World:
    def __init__(self, work, jumund, jumun_replica, jumun_bench):
        self.work, self.jumun_replica, self.jumun_bench = work, jumun_replica, jumun_bench
        self.nodes, self.endpoints = [], []
        base = ports.pick(NODES * 12)
        topology = {'cluster_id': '00112233445566778899aabbccddeeff', 'shards': 2, 'nodes': [
            {'node': n + 1, 'peers': f'tcp://127.0.0.1:{base + n * 12}',
             'clients': f'tcp://127.0.0.1:{base + n * 12 + 4}'} for n in range(NODES)]}
        with open(f'{work}/cluster.json', 'w', encoding='utf-8') as f:
            json.dump(topology, f)
        for n in range(NODES):
            listen = topology['nodes'][n]['clients']
            self.endpoints.append(listen)
            self.nodes.append(Program(
                [jumund, '--data', f'{work}/node-{n + 1}', '--cluster', f'{work}/cluster.json',
                 '--node-id', str(n + 1), '--listen', listen, '--no-pin', '--peer-listen',
                 topology['nodes'][n]['peers'], '--feed-listen',
                 f'tcp://127.0.0.1:{base + n * 12 + 10}', '--notify-listen', 'none'],
                f'{work}/node-{n + 1}.log'))

    def start_nodes(self):
        """All at once: one alone is not ready."""
        for node in self.nodes:
            with open(node.log, 'ab') as log:
                node.process = subprocess.Popen(node.arguments, stdout=subprocess.PIPE, stderr=log)
        for node in self.nodes:
            check(' ready: ' in node.process.stdout.readline().decode(), 'a node serves')

    def replica(self, name, data, *options):
        return Program([self.jumun_replica, '--data', data, '--nodes', ','.join(self.endpoints),
                        '--listen', 'tcp://127.0.0.1:0', '--notify-listen', 'none', *options],
                       f'{self.work}/{name}.log')

    def load(self, seconds):
        return subprocess.Popen([self.jumun_bench, '--endpoint', ','.join(self.endpoints),
                                 '--mode', 'callers', '--callers', '16', '--seconds', str(seconds),
                                 '--warmup', '0', '--live', '3000', '--timeout-ms', '30000',
                                 '--quiet'], stdout=subprocess.DEVNULL)

    def signal_all(self, number):
        for node in self.nodes:
            node.process.send_signal(number)

    def caught_up(self, url):
        wanted, now = committed(self.endpoints), tokens(url)
        return all(now.get(shard, 0) >= index for shard, index in wanted.items())

    def compare(self, url, fresh_url):
        """Both at one state: deadlines of orders pass on the nodes all the time, so they stand
        still meanwhile, and what is on its way then may come to one replica only: once more."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            await_that(lambda: self.caught_up(url) and self.caught_up(fresh_url), 'all is there')
            self.signal_all(signal.SIGSTOP)
            now = tokens(url)
            same = tokens(fresh_url) == now
            if same:
                demand = [[shard, index] for shard, index in now.items()]
                one, other = everything(url, demand), everything(fresh_url, demand)
                same = tokens(url) == now and tokens(fresh_url) == now
            self.signal_all(signal.SIGCONT)
            if same:
                return one, other
            time.sleep(0.2)
        sys.exit('FAILED: the replicas never rested at one state')


def kill_in_turn(world, replica, url):
    """Each node once, and the replica in the middle of it."""
    seen = tokens(url)

    def moved_on():
        nonlocal seen
        now = tokens(url)
        check(all(now.get(shard, 0) >= index for shard, index in seen.items()),
              f'tokens never go back: {seen} -> {now}')
        moved = bool(now) and all(now[shard] > seen.get(shard, 0) for shard in now)
        if moved:
            seen = now
        return moved

    await_that(moved_on, 'the replica follows')
    for place, node in enumerate(world.nodes):
        node.kill()
        await_that(moved_on, f'the replica goes on without node {place + 1}')
        node.start()
        await_that(moved_on, f'the replica goes on with node {place + 1} back')
        if place == 1:
            before = tokens(url)
            replica.kill()
            url = replica.start()
            now = tokens(url)
            check(all(now.get(shard, 0) >= index for shard, index in before.items()),
                  'what was answered was not lost by the kill')
            seen = now
    return url


def fill_the_disk(world, url, disk):
    """Until it is told; answers go on; with more room it goes on by itself."""
    room = os.statvfs(disk)
    with open(f'{disk}/ballast', 'wb') as f:
        f.write(b'x' * max(0, room.f_bavail * room.f_frsize - (1 << 20)))
    load = world.load(30)
    await_that(lambda: replica_status(url)['no_room'], 'a full disk is told')
    check(tokens(url), 'questions are answered from what is there')
    behind = tokens(url)
    subprocess.run(['mount', '-o', 'remount,size=2g', disk], check=True)
    await_that(lambda: not replica_status(url)['no_room'], 'there is room again')
    await_that(lambda: all(i > behind[s] for s, i in tokens(url).items()), 'it goes on')
    load.terminate()
    load.wait(PATIENCE)


def main(*programs):
    work = tempfile.mkdtemp(prefix='jumun-replica-cluster-', dir=os.environ.get('TMPDIR', '/tmp'))
    print('directory:', work)
    world = World(work, *programs)
    disk = f'{work}/disk'
    os.mkdir(disk)
    bounded = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={DISK}', 'tmpfs', disk],
                             stderr=subprocess.DEVNULL, check=False).returncode == 0
    print('a bounded disk' if bounded else 'no right to mount: the disk is never full')
    started = []
    try:
        world.start_nodes()
        started += world.nodes
        replica = world.replica('replica', f'{disk}/data', '--sync', '--map-size', '1G')
        url = replica.start()
        started.append(replica)
        load = world.load(600)
        url = kill_in_turn(world, replica, url)
        load.terminate()
        load.wait(PATIENCE)
        if bounded:
            fill_the_disk(world, url, disk)
        fresh = world.replica('fresh', f'{work}/fresh', '--map-size', '4G')
        fresh_url = fresh.start()
        started.append(fresh)
        (orders, counters), (fresh_orders, fresh_counters) = world.compare(url, fresh_url)
        print(len(orders), 'orders,', len(counters), 'counters')
        check(orders and orders == fresh_orders, 'the orders are those of the logs')
        check(counters and counters == fresh_counters, 'and so are the counters')
        for program in (replica, fresh):
            program.stop()
            started.remove(program)
    finally:
        for program in started:
            if program.process.poll() is None:
                program.kill()
        if bounded:
            subprocess.run(['umount', '-l', disk], check=False)
    shutil.rmtree(work)
    print('the same as from scratch')


if __name__ == '__main__':
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main(*sys.argv[1:])
