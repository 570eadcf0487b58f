#!/usr/bin/env python3
"""A replica is killed (-9) over and over while a node takes its full load, and so is the node once.
In the end it must hold exactly what a replica holds that was made from the log from scratch: every
order, byte for byte, and every counter. Tokens must never go back while a replica lives.

  test_replica_kill.py JUMUND JUMUN_REPLICA JUMUN_BENCH
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from replica_process import PATIENCE, Program, check, check_same, compare, ports, reached, tokens

KILLS = 5


def main(jumund, jumun_replica, jumun_bench):
    work = tempfile.mkdtemp(prefix='jumun-replica-kill-', dir=os.environ.get('TMPDIR', '/tmp'))
    print('directory:', work)

    def replica(name, node_endpoint):
        return Program([jumun_replica, '--data', f'{work}/{name}', '--nodes', node_endpoint,
                        '--listen', 'tcp://127.0.0.1:0', '--notify-listen', 'none',
                        '--map-size', '4G'], f'{work}/{name}.log')
    port = ports.pick(10)  # the node keeps its ports over the restart
    node = Program([jumund, '--data', f'{work}/node', '--listen', f'tcp://127.0.0.1:{port}',
                    '--shards', '2', '--no-pin', '--feed-listen', f'tcp://127.0.0.1:{port + 8}'],
                   f'{work}/node.log')
    endpoint = node.start()
    victim = replica('victim', endpoint)
    url = victim.start()
    load = subprocess.Popen([jumun_bench, '--endpoint', endpoint, '--mode', 'callers', '--callers',
                             '16', '--seconds', str(KILLS + 3), '--warmup', '0', '--live', '3000',
                             '--timeout-ms', '30000', '--quiet'], stdout=subprocess.DEVNULL)
    for i in range(KILLS):
        seen = tokens(url)
        for _ in range(10):
            time.sleep(random.uniform(0.02, 0.1))
            now = tokens(url)
            check(reached(now, seen), f'tokens never go back: {seen} -> {now}')
            seen = now
        victim.kill()
        if i == KILLS // 2:
            node.kill()
            node.start()
        url = victim.start()
        again = tokens(url)
        print('killed at', seen, 'back at', again)
        check(reached(again, seen), 'what was answered was not lost by the kill')
    load.wait(2 * PATIENCE)
    fresh = replica('fresh', endpoint)
    fresh_url = fresh.start()
    check_same(compare([node], [endpoint], url, fresh_url))
    for program in (victim, fresh, node):
        program.stop()
    shutil.rmtree(work)
    print('the same as from scratch')


if __name__ == '__main__':
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        main(*sys.argv[1:])
    finally:
        for left in Program.started:
            if left.poll() is None:
                left.kill()
