/* Whether the ports of shards that there shall be are free at the nodes: a node listens for each
 * shard, by the number above the port of its general endpoint. Seen from here: by connecting. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/cli/cli_cluster.h"
#include "clients/cli/text.h"

enum { PORTS_PATIENCE_MS = 500, PORTS_MAX = 65535 };

enum ports_answer { PORTS_FREE, PORTS_IN_USE, PORTS_SILENT };

/* What connects to itself found nobody: both ends have the same port of this machine. */
static bool ports_is_oneself(int fd) {
    struct sockaddr_storage own, other;
    socklen_t own_bytes = sizeof own, other_bytes = sizeof other;
    memset(&own, 0, sizeof own);
    memset(&other, 0, sizeof other);
    return getsockname(fd, (struct sockaddr *)&own, &own_bytes) == 0 &&
           getpeername(fd, (struct sockaddr *)&other, &other_bytes) == 0 &&
           own_bytes == other_bytes && memcmp(&own, &other, own_bytes) == 0;
}

static enum ports_answer ports_connect(const struct addrinfo *at) {
    int error = 0;
    socklen_t error_bytes = sizeof error;
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return PORTS_SILENT;
    int rc = connect(fd, at->ai_addr, at->ai_addrlen);
    if (rc != 0 && errno == EINPROGRESS) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        do rc = poll(&ready, 1, PORTS_PATIENCE_MS);
        while (rc < 0 && errno == EINTR);
        if (rc == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) != 0) rc = -1;
    } else if (rc != 0) {
        error = errno;
        rc = 1;
    } else {
        rc = 1;
    }
    bool in_use = rc == 1 && error == 0 && !ports_is_oneself(fd);
    close(fd);
    return in_use ? PORTS_IN_USE : rc == 1 && (error == 0 || error == ECONNREFUSED) ? PORTS_FREE
                                                                                    : PORTS_SILENT;
}

/* "tcp://host:port", also encrypted: the first address of the host with another port. */
static enum ports_answer ports_ask(const char *base, uint32_t port) {
    char host[ENDPOINT_BYTES_MAX], service[16];
    struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    const char *begin = strstr(base, "://") + 3, *end = strrchr(base, ':');
    if (*begin == '[' && end > begin && end[-1] == ']') {
        begin++;
        end--;
    }
    snprintf(host, sizeof host, "%.*s", (int)(end - begin), begin);
    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(host, service, &wanted, &found) != 0) return PORTS_SILENT;
    enum ports_answer answer = ports_connect(found);
    freeaddrinfo(found);
    return answer;
}

/* The port of a general endpoint; 0 = it is of another kind. */
static uint32_t ports_base(const char *endpoint) {
    const char *scheme = strstr(endpoint, "tcp://"), *colon = strrchr(endpoint, ':');
    int64_t port = 0;
    if (!scheme || colon <= scheme + 3 || !text_parse_int64(colon + 1, &port)) return 0;
    return port > 0 && port <= PORTS_MAX ? (uint32_t)port : 0;
}

static bool ports_of_node(struct cli *cli, const struct cluster_member *m, uint32_t from,
                          uint32_t to) {
    uint32_t base = ports_base(m->client);
    if (base == 0) return true;
    if (base + to > PORTS_MAX) {
        cli_error(cli, "refused: node %u (%s) would listen for shard %u on port %u, which is no "
                  "port", m->node, m->client, to - 1, base + to);
        return false;
    }
    for (uint32_t shard = from; shard < to; shard++) {
        enum ports_answer answer = ports_ask(m->client, base + 1 + shard);
        if (answer == PORTS_SILENT) return true; /* it is not to be asked from here */
        if (answer == PORTS_FREE) continue;
        int bytes = (int)(strrchr(m->client, ':') - m->client);
        cli_error(cli, "refused: node %u has to listen for shard %u on %.*s:%u, and another "
                  "program uses that address (--force grows all the same)", m->node, shard, bytes,
                  m->client, base + 1 + shard);
        return false;
    }
    return true;
}

bool cluster_ports_are_free(struct cli *cli, uint32_t shards) {
    const struct cluster_document *d = &cluster_known()->document;
    /* The last one of the document is the meta group, which has no endpoint of its own. */
    uint32_t there = d->shards_count > 0 ? d->shards_count - 1u : 0;
    bool free = true;
    for (uint32_t i = 0; i < d->nodes_count && there < shards; i++)
        if (d->nodes[i].state != CLUSTER_MEMBER_REMOVED)
            free = ports_of_node(cli, &d->nodes[i], there, shards) && free;
    return free;
}
