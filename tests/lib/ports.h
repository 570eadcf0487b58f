/* Ports for the programs that a test starts; tests/lib/ports.py is the same for Python. */
#ifndef JUMUN_TESTS_PORTS_H
#define JUMUN_TESTS_PORTS_H

/* The first of `count` ports in a row on which nobody listens now and which no other test will be
 * given, whatever runs beside it, until this process ends. They lie below those that the system
 * hands out to connections that go out: a node can be down for a while and have its own again.
 * Ends the process with a sentence and status 1 when there are none. One thread at a time. */
int ports_pick(int count);

#endif
