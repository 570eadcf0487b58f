/* A peer that is gone must cost its connection, and nothing else.
 *
 * Two faults of nng 1.5.2 make more of it:
 *
 * - It takes the error of a connection that breaks while it is being greeted for one of its
 *   listener, or dialer. EPIPE becomes NNG_ECLOSED there, which it reads as "the listener is
 *   closed": it goes on taking connections and never hands one to the socket again (nanomsg/nng
 *   issue 1518, mended in later versions). Whoever connects, ends its side and resets, or leaves in
 *   the middle of an encrypted greeting, would make an endpoint deaf for good.
 * - A send that fails closes the connection. Where a message comes in at that moment, between its
 *   head and its body, the transport begins to receive the rest on an aio that is closed already
 *   and never hears of it again; the one thread that frees connections waits for that for ever
 *   (see socket_close.h). A client that is killed while it asks much would do that to a node.
 *
 * So programs of ours have this sendmsg() and this epoll_wait() instead of the C library's: libnng,
 * which sends and waits with nothing else, finds them first. What cannot be sent because the peer
 * is gone counts as sent, as does what a peer that goes a moment later has not read; and a
 * connection that breaks is told as one that can be read and written. So nng hears of the end where
 * it receives, which it always does sooner or later: there it closes the connection with nothing
 * under way. Not for libjumun: a library has no business in the calls of a whole program. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"), used)) ssize_t
sendmsg(int fd, const struct msghdr *message, int flags) {
    ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
    if (sent >= 0 || (errno != EPIPE && errno != ECONNRESET)) return sent;
    sent = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) sent += (ssize_t)message->msg_iov[i].iov_len;
    return sent;
}

__attribute__((visibility("default"), used)) int
epoll_wait(int fd, struct epoll_event *events, int events_max, int timeout_ms) {
    const uint32_t broken = EPOLLERR | EPOLLHUP;
    /* By its sibling in the C library, not by a bare system call: a thread sanitizer sees the
     * order between the thread that asked for an event and the one that hears of it only there. */
    int count = epoll_pwait(fd, events, events_max, timeout_ms, NULL);
    for (int i = 0; i < count; i++) {
        if ((events[i].events & broken) == 0) continue;
        events[i].events = (events[i].events & ~broken) | EPOLLIN | EPOLLOUT;
    }
    return count;
}
