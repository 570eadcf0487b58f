/* Links as a proxy on loopback: for each pair of nodes and direction two listeners (messages and
 * stored states), and one thread that carries bytes. What node a sends to node b over a connection
 * that it dialled passes while the link a -> b is whole; what comes back (the transport's greeting
 * only, as these sockets are one-way) while b -> a is. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/ports.h"
#include "tests/process/cluster_links.h"
#include "tests/process/node_process.h"

enum {
    PLACES_MAX = LINKS_NODES_MAX + 1, SOCKETS_OF_A_PAIR = 2, CONNECTIONS_MAX = 256,
    CHUNK_BYTES = 65536, QUEUE_BYTES_MAX = 8 << 20,
    DOORS_MAX = LINKS_NODES_MAX * LINKS_NODES_MAX * SOCKETS_OF_A_PAIR
};

struct chunk {
    struct chunk *next;
    int64_t due_ns;
    size_t bytes, sent;
    uint8_t data[];
};

/* One direction of a connection. */
struct flow {
    int in, out, from, to;
    struct chunk *first, *last;
    size_t queued_bytes;
    bool has_ended;             /* nothing more comes in */
};

struct door { int listener, from, to, port; };

struct proxy {
    struct links links;
    int first_client_port, first_door_port, ports_of_a_node;
    int peer_ports[PLACES_MAX];
    struct door doors[DOORS_MAX];
    int doors_count, connections_count;
    struct flow flows[CONNECTIONS_MAX][2];
    atomic_bool is_cut[PLACES_MAX][PLACES_MAX], stop;
    atomic_llong delay_ns;
    int wake;
    pthread_t thread;
};

static int64_t proxy_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct sockaddr_in proxy_address(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void proxy_add_door(struct proxy *p, int from, int to, int port, int target) {
    struct sockaddr_in address = proxy_address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 16) != 0) {
        test_fail(NULL, "the proxy cannot listen on port %d: %s", port, strerror(errno));
    }
    p->doors[p->doors_count++] = (struct door){fd, from, to, target};
}

static void flow_drop(struct flow *f) {
    while (f->first) {
        struct chunk *c = f->first;
        f->first = c->next;
        free(c);
    }
}

static void proxy_hang_up(struct proxy *p, int i) {
    close(p->flows[i][0].in);
    close(p->flows[i][0].out);
    flow_drop(&p->flows[i][0]);
    flow_drop(&p->flows[i][1]);
    int last = --p->connections_count;
    memmove(p->flows[i], p->flows[last], sizeof p->flows[i]);
}

static void proxy_accept(struct proxy *p, const struct door *door) {
    int in = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
    if (in < 0) return;
    struct sockaddr_in address = proxy_address(door->port);
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (out < 0 || p->connections_count == CONNECTIONS_MAX ||
        connect(out, (struct sockaddr *)&address, sizeof address) != 0) {
        close(in);
        if (out >= 0) close(out);
        return;
    }
    fcntl(out, F_SETFL, O_NONBLOCK);
    setsockopt(in, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct flow *f = p->flows[p->connections_count++];
    f[0] = (struct flow){.in = in, .out = out, .from = door->from, .to = door->to};
    f[1] = (struct flow){.in = out, .out = in, .from = door->to, .to = door->from};
}

/* False when the connection is broken. */
static bool flow_read(struct flow *f, int64_t due_ns) {
    struct chunk *c = malloc(sizeof *c + CHUNK_BYTES);
    if (!c) return false;
    ssize_t n = read(f->in, c->data, CHUNK_BYTES);
    if (n <= 0) {
        free(c);
        f->has_ended = n == 0;
        return n == 0 || errno == EAGAIN || errno == EINTR;
    }
    c->next = NULL;
    c->due_ns = due_ns;
    c->bytes = (size_t)n;
    c->sent = 0;
    if (f->first) f->last->next = c;
    else f->first = c;
    f->last = c;
    f->queued_bytes += c->bytes;
    return true;
}

/* Sends what is due. False when the connection is broken. */
static bool flow_write(struct flow *f, int64_t now_ns) {
    while (f->first && f->first->due_ns <= now_ns) {
        struct chunk *c = f->first;
        ssize_t n = send(f->out, c->data + c->sent, c->bytes - c->sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        c->sent += (size_t)n;
        if (c->sent < c->bytes) return true;
        f->queued_bytes -= c->bytes;
        f->first = c->next;
        free(c);
    }
    return true;
}

static bool flow_is_cut(const struct proxy *p, const struct flow *f) {
    return atomic_load(&p->is_cut[f->from][f->to]);
}

/* What a flow waits for; lowers *until_ns to when its first bytes are due. */
static short flow_wants(const struct proxy *p, const struct flow *f, bool reads, int64_t now_ns,
                        int64_t *until_ns) {
    if (flow_is_cut(p, f)) return 0;
    if (reads) return f->has_ended || f->queued_bytes >= QUEUE_BYTES_MAX ? 0 : POLLIN;
    if (!f->first) return 0;
    if (f->first->due_ns <= now_ns) return POLLOUT;
    if (f->first->due_ns < *until_ns) *until_ns = f->first->due_ns;
    return 0;
}

/* One connection after poll(): false when it has ended. */
static bool proxy_carry(struct proxy *p, struct flow *f, const struct pollfd *fds, int64_t now) {
    int64_t due_ns = now + atomic_load(&p->delay_ns);
    for (int d = 0; d < 2; d++) {
        if (flow_is_cut(p, &f[d])) continue;
        if (fds[d].revents & POLLIN && !flow_read(&f[d], due_ns)) return false;
        if (!flow_write(&f[d], now)) return false;
        if (f[d].has_ended && !f[d].first) return false;
    }
    bool broken = (fds[0].revents | fds[1].revents) & (POLLERR | POLLNVAL);
    return !broken;
}

static void *proxy_run(void *arg) {
    struct proxy *p = arg;
    static struct pollfd fds[DOORS_MAX + 2 * CONNECTIONS_MAX + 1];
    while (!atomic_load(&p->stop)) {
        int64_t now = proxy_now_ns(), until = now + 1000000000;
        int count = 0, connections = p->connections_count;
        fds[count++] = (struct pollfd){p->wake, POLLIN, 0};
        for (int i = 0; i < p->doors_count; i++) {
            const struct door *d = &p->doors[i];
            bool is_cut = atomic_load(&p->is_cut[d->from][d->to]);
            fds[count++] = (struct pollfd){is_cut ? -1 : d->listener, POLLIN, 0};
        }
        for (int i = 0; i < connections; i++) {
            const struct flow *f = p->flows[i];
            for (int d = 0; d < 2; d++) {
                short wants = flow_wants(p, &f[d], true, now, &until);
                wants |= flow_wants(p, &f[1 - d], false, now, &until);
                fds[count++] = (struct pollfd){wants ? f[d].in : -1, wants, 0};
            }
        }
        int64_t wait = until - now;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        if (ppoll(fds, (nfds_t)count, &timeout, NULL) < 0) continue;
        uint64_t drained;
        if (fds[0].revents && read(p->wake, &drained, sizeof drained) < 0) continue;
        now = proxy_now_ns();
        const struct pollfd *of = &fds[1 + p->doors_count];
        for (int i = connections - 1; i >= 0; i--) {
            if (!proxy_carry(p, p->flows[i], &of[2 * i], now)) proxy_hang_up(p, i);
        }
        for (int i = 0; i < p->doors_count; i++) {
            if (fds[1 + i].revents & POLLIN) proxy_accept(p, &p->doors[i]);
        }
    }
    return NULL;
}

static void proxy_wake(struct proxy *p) {
    const uint64_t one = 1;
    if (write(p->wake, &one, sizeof one) < 0) test_fail(NULL, "eventfd: %s", strerror(errno));
}

static struct links *proxy_open(int nodes, int shards, char *reason, size_t reason_bytes) {
    int own = nodes * SOCKETS_OF_A_PAIR, client = nodes * (NODE_PORTS_BELOW + shards + 1);
    int first = ports_pick(own + client + nodes * nodes * SOCKETS_OF_A_PAIR);
    struct proxy *p = calloc(1, sizeof *p);
    if (!p) test_fail(NULL, "no memory");
    p->ports_of_a_node = NODE_PORTS_BELOW + shards + 1;
    p->first_client_port = first + own + NODE_PORTS_BELOW;
    p->links.nodes = nodes;
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int port = p->first_door_port = first + own + client;
    for (int to = 1; to <= nodes; to++) p->peer_ports[to] = first + (to - 1) * SOCKETS_OF_A_PAIR;
    for (int from = 1; from <= nodes; from++) {
        for (int to = 1; to <= nodes; to++) {
            for (int s = 0; s < SOCKETS_OF_A_PAIR; s++, port++) {
                if (to != from) proxy_add_door(p, from, to, port, p->peer_ports[to] + s);
            }
        }
    }
    if (pthread_create(&p->thread, NULL, proxy_run, p) != 0) test_fail(NULL, "no thread");
    return &p->links;
}

static void proxy_close(struct links *links) {
    struct proxy *p = (struct proxy *)links;
    atomic_store(&p->stop, true);
    proxy_wake(p);
    pthread_join(p->thread, NULL);
    while (p->connections_count > 0) proxy_hang_up(p, 0);
    for (int i = 0; i < p->doors_count; i++) close(p->doors[i].listener);
    close(p->wake);
    free(p);
}

static int proxy_network(const struct links *links, int node) { return 0; }

static void proxy_peer_endpoint(const struct links *links, int from, int to, char *endpoint) {
    const struct proxy *p = (const struct proxy *)links;
    int port = p->peer_ports[to];
    if (from != to) {
        port = p->first_door_port + ((from - 1) * links->nodes + to - 1) * SOCKETS_OF_A_PAIR;
    }
    snprintf(endpoint, LINKS_ENDPOINT_BYTES, "tcp://127.0.0.1:%d", port);
}

static void proxy_client_endpoint(const struct links *links, int node, char *endpoint) {
    const struct proxy *p = (const struct proxy *)links;
    snprintf(endpoint, LINKS_ENDPOINT_BYTES, "tcp://127.0.0.1:%d",
             p->first_client_port + (node - 1) * p->ports_of_a_node);
}

static void proxy_set_cut(struct links *links, int from, int to, bool is_cut) {
    struct proxy *p = (struct proxy *)links;
    atomic_store(&p->is_cut[from][to], is_cut);
    proxy_wake(p);
}

static bool proxy_set_delay(struct links *links, int64_t delay_us) {
    atomic_store(&((struct proxy *)links)->delay_ns, delay_us * 1000);
    return true;
}

const struct links_ways links_proxy = {
    .name = "proxy", .open = proxy_open, .close = proxy_close, .network = proxy_network,
    .peer_endpoint = proxy_peer_endpoint, .client_endpoint = proxy_client_endpoint,
    .set_cut = proxy_set_cut, .set_delay = proxy_set_delay};
