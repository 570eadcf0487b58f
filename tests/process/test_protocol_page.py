#!/usr/bin/env python3
"""The promise of docs/protocol.md: a client can be written from the page alone.

  test_protocol_page.py JUMUND JUMUN PAGE

Runs the client that stands on the page, as it stands there, against a real node, and sends every
request that the page shows in hex; each must be answered in the documented shape. The commands of
"By hand with nngcat" are run as well. And the client gets along in a cluster: past a node that
waits and one that is not there, to the leader that it is told of, and on when its node is killed.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import types

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from cluster_of_nodes import check, cluster, form  # noqa: E402
from pack import packb, unpackb  # noqa: E402

PATIENCE_S = 60


def page_client(page, endpoints):
    """The first python block of the page, run with a msgpack of our own."""
    msgpack = types.ModuleType('msgpack')
    msgpack.packb, msgpack.unpackb = packb, unpackb
    sys.modules['msgpack'] = msgpack
    scope = {}
    exec(re.search(r'```python\n(.*?)```', page, re.S).group(1), scope)
    scope['Client'].__init__.__defaults__ = (endpoints,)
    return scope


def count_the_lines(page):
    """What a heading promises, and another page repeats."""
    client, _, receiver = re.findall(r'```python\n(.*?)```', page, re.S)
    for name, block in (('client', client), ('receiver', receiver)):
        lines = block.count('\n')
        check(lines <= 50, 'the %s has 50 lines at most, not %d' % (name, lines))


def run_the_page(page, port):
    scope = page_client(page, ['tcp://127.0.0.1:%d' % port])
    exec(re.findall(r'```python\n(.*?)```', page, re.S)[1], scope)
    client, key = scope['client'], scope['key']
    code, result = client.command(20, key)
    check(code == 0 and result[5]['state'] == 'paid', 'the order of the page is paid')
    check(result[5]['key'] == key and result[5]['captured'] == 19000, 'and has its key and money')
    code, result = client.command(21, key)
    actions = [event['action'] for event in result[5]]
    check(actions == ['order_placed', 'payment_recorded'], 'its history is told')
    code, result = client.command(20, scope['new_key']())
    check(code == 100 and result[5] == 'no order has this key', 'an unknown key is refused')
    check(client.command(1, key, [1])[0] == 62, 'a malformed command is refused by name')
    code, result = client.command(50, 'store-8', ['closed'])
    check(code == 0, 'a store is paused')
    code, result = client.command(52, 'store-8')
    check(result[5]['paused'] and result[5]['pause_reason'] == 'closed', 'and says so')
    return client


def run_the_hex(page, client):
    blocks = re.findall(r'```hex (.*?)\n(.*?)```', page, re.S)
    requests = [(name, bytes.fromhex(text)) for name, text in blocks
                if not name.startswith(('reply: ', 'republished: '))]
    check(len(requests) > 20, 'the page shows its requests')
    for name, request in requests:
        version, code, results = client.exchange(request)
        if name == 'of one cluster':  # and this is another one
            check((version, code) == (1, 11), name + ': the message is refused')
            fields = unpackb(request)
            fields[4] = client.cluster[1]
            version, code, results = client.exchange(packb(fields))
        check((version, code) == (1, 0), name + ': the message is taken')
        for result in results:
            check(isinstance(result, list) and len(result) in (4, 5, 6, 7), name + ': shape')
            # Its shape is right, whatever the rules say of a key that old.
            check(not 50 <= result[0] < 68, name + ': is not malformed: %r' % result)
        want = {'ping': 'pong', 'shard_map': dict, 'status': dict, 'store_get': dict}.get(name)
        if want is not None:
            value = results[0][5]
            check(value == want or (want is dict and isinstance(value, dict)), name + ': value')
    version, code, sentence = client.exchange(b'\x91\x02')
    check((code, sentence) == (51, 'the protocol version is not supported'), 'version 2')
    check(client.exchange(b'rubbish')[1] == 50, 'rubbish')


def run_by_hand(page, jumun, folder, port):
    """The shell blocks of that section, as they stand there but for the port."""
    section = page[page.index('## By hand with nngcat'):page.index('## A client in 50 lines')]
    blocks = re.findall(r'```bash\n(.*?)```', section, re.S)
    check(len(blocks) == 2, 'a ping and a place by hand')
    if not shutil.which('nngcat'):
        print('no nngcat: its commands are left out')
        return
    script = ''.join(blocks).replace('127.0.0.1:7400', '127.0.0.1:%d' % port)
    env = {**os.environ, 'PATH': os.path.dirname(jumun) + ':' + os.environ['PATH']}
    told = subprocess.run(['bash', '-ec', script], cwd=folder, env=env, stdout=subprocess.PIPE,
                          text=True, check=False)
    check(told.returncode == 0, 'the commands by hand: ' + told.stdout)
    lines = told.stdout.strip().splitlines()
    ping = r'"\x93\x01\x00\x91\x96\x00\x00\x00\x00\x00\xa4\x70\x6f\x6e\x67"'
    check(lines[0] == ping and ping in section, 'the ping is answered: ' + lines[0])
    request, reply = (json.loads(line) for line in lines[1:3])
    check(request[2][0][0] == 1 and request[2][0][4][3] == 's1', 'the place is shown')
    check(reply[1] == 0 and reply[2][0][0] == 0, 'and it is done: ' + lines[2])


def order_and_look(scope, client, what):
    key = scope['new_key']()
    body = [3, 1, 'KRW', 'store-7', [['bibimbap', 2, 9500]], 0, 0, 19000]
    code, result = client.command(1, key, body, timeout=PATIENCE_S)
    check(code == 0, '%s: placed, not %r' % (what, result))
    code, result = client.command(20, key, timeout=PATIENCE_S)
    check(code == 0 and result[5]['state'] == 'placed', '%s: and found, not %r' % (what, result))
    return key


def run_in_a_cluster(page):
    with cluster('protocol-page') as c:
        for place in range(4):
            check('waiting' in c.start(place), 'a node waits')
        form(c, range(3), '--shards', '1')
        scope = page_client(page, None)
        gone = c.url(4)                     # nobody listens there
        client = scope['Client']([c.url(3), gone, *map(c.url, range(3))])
        keys = [order_and_look(scope, client, 'past a node that waits')]
        check(client.at == c.url(0), 'it came to the first one that serves')
        c.end(0, signal.SIGKILL)
        keys.append(order_and_look(scope, client, 'when its node is killed'))
        check(client.at != c.url(0), 'it went on to another one')
        c.await_that(lambda: c.status()['shards'][0]['leader'], 'a leader is known')
        leader = c.status()['shards'][0]['leader'] - 1
        shard = ['tcp://127.0.0.1:%d' % (int(c.url(n).split(':')[2]) + 1)
                 for n in (leader, 3 - leader)]
        client = scope['Client']([shard[1]])   # the other one of 1 and 2
        keys.append(order_and_look(scope, client, 'at who does not lead'))
        check(client.at == shard[0], 'it went to the leader, not to ' + client.at)
        for key in keys:
            check(client.command(20, key, timeout=PATIENCE_S)[0] == 0, 'all orders are there')


def main():
    jumund, jumun, page_path = map(os.path.abspath, sys.argv[1:])
    page = open(page_path, encoding='utf-8').read()
    with tempfile.TemporaryDirectory() as folder:
        node = subprocess.Popen([jumund, '--data', os.path.join(folder, 'data'), '--shards', '2',
                                 '--listen', 'tcp://127.0.0.1:0'],
                                stdout=subprocess.PIPE, text=True)
        try:
            ready = next((line for line in node.stdout if 'ready' in line), '')
            port = re.search(r'tcp://127\.0\.0\.1:(\d+)', ready)
            check(port is not None, 'the node came up')
            count_the_lines(page)
            run_the_hex(page, run_the_page(page, int(port.group(1))))
            run_by_hand(page, jumun, folder, int(port.group(1)))
        finally:
            node.terminate()
            status = node.wait(timeout=PATIENCE_S)
    check(status == 0, 'the node stopped in order')
    run_in_a_cluster(page)
    print('the page tells the truth')


if __name__ == '__main__':
    main()
