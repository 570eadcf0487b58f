/* A peer that is gone must not close a listener.
 *
 * nng 1.5.2 takes the error of a connection that breaks while it is being greeted for one of its
 * listener, or dialer. EPIPE becomes NNG_ECLOSED there, which it reads as "the listener is closed":
 * it goes on taking connections and never hands one to the socket again (nanomsg/nng issue 1518,
 * mended in later versions). Whoever connects, ends its side and resets, or leaves in the middle of
 * an encrypted greeting, would make an endpoint deaf for good.
 *
 * So programs of ours have this sendmsg() instead of the C library's: libnng, which sends with
 * nothing else, finds it first. It tells a closed peer as ECONNRESET, which nng takes for what it
 * is. Not for libjumun: a library has no business in the calls of a whole program. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"), used)) ssize_t
sendmsg(int fd, const struct msghdr *message, int flags) {
    ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
    if (sent < 0 && errno == EPIPE) errno = ECONNRESET;
    return sent;
}
