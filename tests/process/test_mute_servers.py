#!/usr/bin/env python3
"""Servers that do not do their part: nobody is there; one takes connections and never speaks; one
greets and never answers; one answers what nobody has asked, all the time. Every call of the
command-line client ends by itself, with the status of "no answer".

  test_mute_servers.py JUMUN
"""
import concurrent.futures
import os
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402

PATIENCE = 120     # of the test; the calls have a fraction of a second
NO_ANSWER = 3
ROUNDS = 4         # with the one that talks all the time: closing is what goes wrong, now and then
CALLS_AT_ONCE = 8
GREETING = b'\0SP\0\0\x31\0\0'
KEY = '01ARZ3NDEKTSV4RRFFQ69G5FAV'
NODE = (('ping',), ('status',), ('get', KEY), ('cluster', 'status'))
REPLICA = (('orders', '--store', 'store-1'), ('replica', 'status'))


def check(good, what):
    if not good:
        raise SystemExit('FAILED: ' + what)


def never_speaks(s):
    while s.recv(65536):
        pass


def greets(s):
    s.sendall(GREETING)
    never_speaks(s)


def talks(s):
    s.sendall(GREETING)
    replies = b''.join(struct.pack('>QI', 604, 0x80000000 | i) + b'x' * 600 for i in range(20))
    while True:
        s.sendall(replies)


def one(s, how):
    try:
        with s:
            how(s)
    except OSError:
        pass


def serve(how):
    """Returns the port of a server that does `how` with each connection."""
    port = ports.pick(1)
    listener = socket.create_server(('127.0.0.1', port), backlog=64)

    def accept():
        while True:
            s, _ = listener.accept()
            threading.Thread(target=one, args=(s, how), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return port


def call(jumun, what, *words):
    try:
        done = subprocess.run([jumun, '--timeout', '300ms', *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise SystemExit(f'FAILED: {what}: {" ".join(words)} does not end') from None
    check(done.returncode == NO_ANSWER,
          f'{what}: {" ".join(words)}: {done.returncode}\n{done.stdout}')


def main(jumun):
    servers = (('nobody', ports.pick(1), 1), ('never speaks', serve(never_speaks), 1),
               ('greets', serve(greets), 1), ('talks', serve(talks), ROUNDS))
    # Each call mostly waits until its own patience is over, and none has to do with another.
    calls = concurrent.futures.ThreadPoolExecutor(CALLS_AT_ONCE)
    running = []
    for what, port, rounds in servers:
        url = f'tcp://127.0.0.1:{port}'
        for words in rounds * NODE:
            running.append(calls.submit(call, jumun, what, *words, '--endpoint', url))
        for words in rounds * REPLICA:
            running.append(calls.submit(call, jumun, what, *words, '--replica', url))
    try:
        for one_call in running:
            one_call.result()
    finally:
        calls.shutdown(cancel_futures=True)


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
