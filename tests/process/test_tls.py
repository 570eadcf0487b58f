#!/usr/bin/env python3
"""Encryption everywhere, with a throw-away authority: three waiting nodes are formed into a
cluster, orders are placed, a replica follows and is asked, a log is verified over the feed; all
with certificates from both sides. Who has none, or one of another authority, gets nowhere.

  test_tls.py JUMUND JUMUN JUMUN_REPLICA JUMUN_BENCH JUMUN_REPLAY
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import certificates  # noqa: E402
import ports  # noqa: E402

PATIENCE = 60
PORTS_A_NODE = 12


def check(good, what):
    if not good:
        raise SystemExit('FAILED: ' + what)


def environment(folder, name):
    return {**os.environ, 'JUMUN_TLS_CA': f'{folder}/{name}-ca.pem',
            'JUMUN_TLS_CERT': f'{folder}/{name}.pem', 'JUMUN_TLS_KEY': f'{folder}/{name}.key'}


class World:
    def __init__(self, folder):
        self.folder, self.running = folder, []
        base = ports.pick(4 * PORTS_A_NODE + 4)
        self.urls = [f'tls+tcp://localhost:{base + n * PORTS_A_NODE + 4}' for n in range(3)]
        self.replica_url = f'tls+tcp://localhost:{base + 3 * PORTS_A_NODE}'
        self.plain_url = f'tcp://localhost:{base + 3 * PORTS_A_NODE + 8}'
        self.nobody_url = f'tls+tcp://localhost:{base + 3 * PORTS_A_NODE + 2}'

    def start(self, arguments, env=None):
        with open(f'{self.folder}/log', 'a', encoding='utf-8') as log:
            process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True,
                                       env=env)
        self.running.append(process)
        return process.stdout.readline()

    def run(self, *arguments, env=None, expect=0):
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=3 * PATIENCE, env=env, check=False)
        check(expect == done.returncode, f'{" ".join(arguments)}: {done.returncode}, not {expect}\n'
              + done.stdout)
        return done.stdout


def no_connection(w, jumund, jumun, ours, others):
    """Why there is none is said, whatever it is."""
    def ask(url, tls, *words, expect=3, timeout='1s'):
        return w.run(jumun, '--endpoint', url, '--timeout', timeout, *tls, *(words or ('ping',)),
                     expect=expect)

    def told(url, tls, why, *words):
        for _ in range(5):      # a busy machine may be too late for an answer
            said = ask(url, tls, *words)
            if why in said:
                return said
        raise SystemExit(f'FAILED: not told: {why}: {said}')

    url = w.urls[0]
    nobody = ask(url, [], expect=2)
    check(f'{url} needs the certificate of' in nobody and '--tls-ca' in nobody and
          'cannot use' not in nobody, 'what is missing is said: ' + nobody)
    for why, tls in (('certificate is not trusted', others),
                     ('seems to want a certificate of its clients', ours[:2]),
                     ('seems not to take the certificate in ' + others[3], ours[:2] + others[2:])):
        told(url, tls, why)
    told(url, others, f'{url}: its certificate is not trusted', 'cluster', 'status')
    by_address = url.replace('localhost', '127.0.0.1')
    told(by_address, ours, f'{by_address}: its certificate does not name "127.0.0.1"')
    told(url.replace('tls+tcp', 'tcp'), ours, 'write tls+tcp://')
    check('ready' in w.start([jumund, '--data', f'{w.folder}/plain', '--listen', w.plain_url,
                              '--feed-listen', 'none', '--notify-listen', 'none', '--no-pin']),
          'a node without encryption')
    told(w.plain_url.replace('tcp', 'tls+tcp'), ours, 'write tcp://')
    ask(w.plain_url, [], expect=0, timeout='20s')
    said = told(f'{w.nobody_url},{by_address}', ours, 'does not name')
    check(f'{w.nobody_url}: nothing listens there' in said, 'each address has a line: ' + said)


def main(jumund, jumun, jumun_replica, jumun_bench, jumun_replay):
    folder = tempfile.mkdtemp(prefix='jumun-tls-', dir=os.environ.get('TMPDIR', '/tmp'))
    w = World(folder)
    good = False
    try:
        if not certificates.make(folder, 'ours', 'others'):
            print('no openssl: skipped')
            good = True
            sys.exit(77)
        ours = certificates.options(folder, 'ours')
        others = certificates.options(folder, 'others')
        all_urls = ','.join(w.urls)

        def cli(*words, tls=ours, env=None, expect=0):
            return w.run(jumun, '--endpoint', all_urls, '--timeout', '20s', *tls, *words, env=env,
                         expect=expect)

        for n, url in enumerate(w.urls):
            told = w.start([jumund, '--data', f'{folder}/node-{n}', '--listen', url, '--no-pin',
                            '--cluster-wait', *ours])
            check('waiting' in told, 'a node waits: ' + told)
        cli('cluster', 'form', *(x for url in w.urls for x in ('--node', url)), '--shards', '2')
        status = json.loads(cli('--json', 'cluster', 'status'))
        check(all(n['answers'] and n['peers'].startswith('tls+tcp://') for n in status['nodes']),
              'all nodes answer, and talk to each other encrypted')
        keys = [cli('--quiet', 'place', '--store', 'store-1', '--currency', 'KRW', '--line',
                    'a:1:100').strip() for _ in range(4)]
        ours_env = environment(folder, 'ours')
        for key in keys:               # the same from the environment
            order = json.loads(cli('--json', 'get', key, tls=[], env=ours_env))
            check(order['state'] == 'placed', 'the order is there')
        w.run(jumun_bench, '--endpoint', all_urls, '--mode', 'callers', '--callers', '4',
              '--seconds', '1', '--warmup', '0', '--live', '100', '--quiet', env=ours_env)

        cli('--timeout', '2s', 'get', keys[0], tls=others, expect=3)
        cli('--timeout', '2s', 'get', keys[0], tls=ours[:2], expect=3)   # no certificate
        no_connection(w, jumund, jumun, ours, others)

        w.run(jumun_replay, *ours, '--quiet', 'verify', w.urls[0], '--against', w.urls[1])
        rows = w.run(jumun_replay, '--json', 'export', w.urls[2], '--order', keys[0], env=ours_env)
        check('order_placed' in rows, 'a feed is read encrypted: ' + rows)
        nobody = w.run(jumun_replay, '--patience', '1s', 'verify', w.urls[0], expect=3)
        check('--tls-ca' in nobody, 'what is missing is said: ' + nobody)

        told = w.start([jumun_replica, '--data', f'{folder}/replica', '--nodes', all_urls,
                        '--listen', w.replica_url, *ours])
        check('ready' in told, 'a replica follows: ' + told)
        until = time.monotonic() + PATIENCE
        while True:
            rows = w.run(jumun, *ours, '--timeout', '20s', '--json', 'orders', '--store', 'store-1',
                         '--replica', w.replica_url)
            if all(key in rows for key in keys):
                break
            check(time.monotonic() < until, 'the replica has the orders: ' + rows)
            time.sleep(0.1)
        nobody = w.run(jumun, *others, '--timeout', '2s', 'orders', '--store', 'store-1',
                       '--replica', w.replica_url, expect=3)
        check(f'{w.replica_url}: ' in nobody, 'why is said of replicas, too: ' + nobody)
        good = True
    finally:
        for process in w.running:
            process.kill()
            process.wait()
        if not good and os.path.exists(f'{folder}/log'):
            print(open(f'{folder}/log', encoding='utf-8').read()[-4000:])
        shutil.rmtree(folder)


if __name__ == '__main__':
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
