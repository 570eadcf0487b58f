#!/usr/bin/env python3
"""A replica of three nodes under load. Each node is killed (-9) and comes back while the replica
goes on with the feeds of the others, and the replica is killed too; then its disk is full for a
while. In the end it must hold exactly what a replica holds that was made from the logs from
scratch, and its tokens must never have gone back.

  test_replica_cluster.py JUMUND JUMUN_REPLICA JUMUN_BENCH
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from replica_process import PATIENCE, World, ask, await_that, check, check_same, reached, tokens

DISK = '48m'            # of the replica, at first


def replica_status(url):
    return ask(url, [1, 0, [[102]]])[2][0][5]


def kill_in_turn(world, replica, url):
    """Each node once, and the replica in the middle of it."""
    seen = tokens(url)

    def moved_on():
        nonlocal seen
        now = tokens(url)
        check(reached(now, seen), f'tokens never go back: {seen} -> {now}')
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
            check(reached(now, before), 'what was answered was not lost by the kill')
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
        check_same(world.compare(url, fresh_url))
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
