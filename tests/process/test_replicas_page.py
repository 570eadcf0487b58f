#!/usr/bin/env python3
"""The promise of docs/replicas.md: a client in another language can be written from the page.

  test_replicas_page.py JUMUND JUMUN-REPLICA JUMUN PAGE

Sends every query of the page's ```query blocks to a real replica, the page's order key exchanged
for that of an order that is there, and holds the answers against those of the page: the same codes
and sentences, and values of the same shape.
"""
import ast
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from pack import packb, unpackb  # noqa: E402

PAGE_KEY = '01a1fcf6798459834d2c27e96848f637'


# Requests for snapshots and of a feed, in the words that tell what is allowed.
WRONG = [([1, 300], 54, 'a replica has no log'),
         ([1, 301, 0, 1], 54, 'a replica has no log'),
         ([1, 303, 0], 21, '[1, 303, nil]'),
         ([1, 304, 7], 50, '[1, 304, id, offset, bytes_max?]'),
         ([1, 301, 0, 0], 50, 'from is 1 or more'),
         ([1, 399], 50, '[1, deadline_ms, [query, ...]')]


def check(condition, what):
    if not condition:
        sys.exit('FAILED: ' + what)


def literal(text, key):
    """The notation of the page: nil, true, false, h'...', "..."."""
    text = text.replace(PAGE_KEY, key)
    text = re.sub(r"h'([0-9a-f]*)(?:\.\.\.)?'", lambda m: 'bytes.fromhex("%s")' % m.group(1), text)
    text = re.sub(r'bytes.fromhex\("([0-9a-f]*)"\)',
                  lambda m: repr(bytes.fromhex(m.group(1))), text)
    for word, python in (('nil', 'None'), ('true', 'True'), ('false', 'False')):
        text = re.sub(r'\b%s\b(?=[,\]\s}])' % word, python, text)
    return ast.literal_eval(text)


def ask(endpoint, request):
    host, port = endpoint[6:].rsplit(':', 1)
    with socket.create_connection((host, int(port)), timeout=60) as s:
        def read(n):
            data = b''
            while len(data) < n:
                more = s.recv(n - len(data))
                check(more, 'the replica hung up on %r' % (request,))
                data += more
            return data
        s.sendall(bytes.fromhex('0053500000300000'))
        read(8)
        body = struct.pack('>I', 0x80000001) + packb(request)
        s.sendall(struct.pack('>Q', len(body)) + body)
        size, = struct.unpack('>Q', read(8))
        return unpackb(read(size)[4:])


def same_shape(page, real, where):
    """Lists of rows may have any number of rows; everything else has the page's shape."""
    if page is Ellipsis or page is None:
        return
    check(type(page) is type(real), '%s: %r is not like %r' % (where, real, page))
    if isinstance(page, dict):
        for name, value in page.items():
            if name is not Ellipsis:
                check(name in real, '%s: %r is missing' % (where, name))
                same_shape(value, real[name], where + '.' + name)
    elif isinstance(page, list) and page and all(isinstance(x, list) for x in page):
        for item in real:
            same_shape(page[0], item, where + '[]')
    elif isinstance(page, list):
        check(len(real) == len(page), '%s: %r has not %d fields' % (where, real, len(page)))
        for i, (a, b) in enumerate(zip(page, real)):
            same_shape(a, b, '%s[%d]' % (where, i))


def start(arguments, log):
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=open(log, 'w'), text=True)
    line = process.stdout.readline()
    check(' ready: ' in line, 'not ready: ' + arguments[0])
    return process, re.search(r'ready: (\S+)', line).group(1)


def examples(page):
    for block in re.findall(r'^```query\n(.*?)^```', page, re.M | re.S):
        for part in re.split(r'\n(?=\[)', block.strip()):
            request, reply = part.split('->')
            yield ' '.join(request.split()), ' '.join(reply.split())


def run(node, replica, jumun, page):
    def place(*more):
        return subprocess.run([jumun, '--endpoint', node, '--timeout', '1m', '-q', 'place',
                               '--store', 'store-1', '--customer', 'c7', '--external-ref', 'r-77',
                               '--currency', 'KRW', '--line', 'rice:2:9500', *more], check=True,
                              text=True, stdout=subprocess.PIPE).stdout.strip()
    keys = [place() for _ in range(3)]
    parsed = subprocess.run([jumun, '--json', 'key', 'parse', keys[0]], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    key = json.loads(parsed)['hex']
    subprocess.run([jumun, '--endpoint', node, '--timeout', '1m', 'pay', keys[0], '19000',
                    '--reference', 'p1', '-q'], check=True, stdout=subprocess.DEVNULL)
    token = json.loads(subprocess.run(
        [jumun, '--endpoint', node, '--timeout', '1m', '--json', 'accept', keys[0], '--minutes',
         '5'], check=True, text=True, stdout=subprocess.PIPE).stdout)
    subprocess.run([jumun, 'orders', '--replica', replica, '--key', keys[0], '--timeout', '1m',
                    '--at-least', '%d:%d' % (token['shard'], token['index']), '--strict'],
                   check=True, stdout=subprocess.DEVNULL)
    for _ in range(600):  # the other orders may be in another shard
        rows = subprocess.run([jumun, '--json', 'orders', '--replica', replica, '--customer', 'c7',
                               '--timeout', '1m'], check=True, text=True, stdout=subprocess.PIPE)
        if len(json.loads(rows.stdout)['orders']) == 3:
            break
        time.sleep(0.1)
    count = 0
    for request, reply in examples(page):
        want = literal(reply, key)
        got = ask(replica, literal(request, key))
        count += 1
        check(got[:2] == want[:2], '%s: %r instead of %r' % (request, got[:2], want[:2]))
        check(len(got) == len(want), '%s: %r' % (request, got))
        if want[1]:
            continue
        check([r[0] for r in got[2]] == [r[0] for r in want[2]], '%s: %r' % (request, got[2]))
        for a, b in zip(want[2], got[2]):
            check(len(a) == len(b), '%s: %r is not like %r' % (request, b, a))
            check(not a[0] or a[5] == b[5], '%s: %r' % (request, b))
            same_shape(a[5:6], b[5:6], request)
    for request, code, words in WRONG:
        got = ask(replica, request)
        check(got[1] == code and words in got[2], '%r: %r' % (request, got))
    print('%d queries of the page answered as it says' % count)
    check(count >= 12, 'only %d queries were found on the page' % count)


def main(jumund, jumun_replica, jumun, page_path):
    page = open(page_path, encoding='utf-8').read()
    os.environ['TZ'] = 'UTC'
    with tempfile.TemporaryDirectory(prefix='jumun-test-replicas-page.') as work:
        started = []
        try:
            started.append(start([jumund, '--data', work + '/node', '--listen',
                                  'tcp://127.0.0.1:0', '--shards', '2', '--no-pin'],
                                 work + '/node.log'))
            started.append(start([jumun_replica, '--nodes', started[0][1], '--data',
                                  work + '/replica', '--listen', 'tcp://127.0.0.1:0'],
                                 work + '/replica.log'))
            run(started[0][1], started[1][1], jumun, page)
        finally:
            for process, _ in started:
                process.kill()
                process.wait()


if __name__ == '__main__':
    main(*sys.argv[1:])
