/* Closing a socket that messages may be coming in on.
 *
 * nng 1.5.2 may wait for ever in nng_close(): where a connection is closed between the head and the
 * body of a message that comes in, its TCP transport begins to receive the rest on an aio that is
 * closed already, and never hears of it again. Its one thread that frees connections then waits for
 * that one, and whoever closes a socket waits for that thread: in this call and in all later ones
 * of the process. An answer that comes after its asker has given it up is enough. */
#ifndef JUMUN_WIRE_SOCKET_CLOSE_H
#define JUMUN_WIRE_SOCKET_CLOSE_H

#include <nng/nng.h>
#include <stdbool.h>

enum { SOCKET_CLOSE_PATIENCE_MS = 2000 };

/* Closes the socket and waits for that, but for SOCKET_CLOSE_PATIENCE_MS at most; for a moment only
 * while an earlier close of this process hangs. False: it was given up. Nothing is sent or received
 * with it then either; but its memory, its descriptors and a thread that waits stay with the
 * process. From the call on nobody is told of its connections. What is under way on it ends, as
 * nng_close() ends it: who frees what the callbacks use stops the aios first. Not from a callback
 * of nng. */
bool socket_close(nng_socket socket);

#endif
