#include "engine/node/ports.h"

#include <nng/nng.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/peers/transport.h"
#include "engine/router/shard_map.h"
#include "engine/wire/tls.h"

enum { PORT_MAX = 65535 };

static bool is_tcp(const char *address) {
    return strncmp(address, "tcp", 3) == 0 || strncmp(address, "tls", 3) == 0;
}

/* The port of a tcp address, and where its colon is; -1 = none. */
static long port_of(const char *address, const char **colon) {
    char *end;
    *colon = strrchr(address, ':');
    if (!*colon || (*colon)[1] < '0' || (*colon)[1] > '9') return -1;
    long port = strtol(*colon + 1, &end, 10);
    return *end == 0 && port <= PORT_MAX ? port : -1;
}

bool node_port_address(const char *base, int shift, const char *name, char *out,
                       size_t out_bytes) {
    int used;
    if (is_tcp(base)) {
        const char *colon;
        long port = port_of(base, &colon);
        if (port < 0) return false;
        long shifted = port == 0 ? 0 : port + shift;
        used = snprintf(out, out_bytes, "%.*s:%ld", (int)(colon - base), base,
                        shifted < 0 || shifted > PORT_MAX ? 0 : shifted);
    } else {
        used = snprintf(out, out_bytes, "%s-%s", base, name);
    }
    return used > 0 && (size_t)used < out_bytes;
}

bool node_port_peers(const struct config *c, char *out, size_t out_bytes) {
    const char *colon;
    if (c->peer_listen[0] != 0) return snprintf(out, out_bytes, "%s", c->peer_listen) > 0;
    /* Others must know it: any free port is none. */
    return is_tcp(c->listen) && port_of(c->listen, &colon) > -NODE_PORT_PEERS &&
           node_port_address(c->listen, NODE_PORT_PEERS, "peers", out, out_bytes);
}

/* `use` says what for, and by which option it goes elsewhere. */
static bool ports_take(struct node_ports *p, const char *address, const char *use, char *error,
                       size_t error_bytes) {
    const char *colon, *plain = strncmp(address, "tls+", 4) == 0 ? address + 4 : address;
    nng_stream_listener *listener = NULL;
    if (!is_tcp(address) || port_of(address, &colon) == 0) return true; /* cannot be in use */
    int rc = nng_stream_listener_alloc(&listener, plain);
    if (rc == 0) rc = nng_stream_listener_listen(listener);
    if (rc == 0) {
        p->listeners[p->count++] = listener;
        return true;
    }
    if (listener) nng_stream_listener_free(listener);
    snprintf(error, error_bytes, "cannot listen on %s, %s: %s", address, use, tls_listen_why(rc));
    return false;
}

static bool ports_asked_for(const char *address) {
    return address[0] != 0 && strcmp(address, "none") != 0;
}

/* Those of the feed that were asked for. */
static bool ports_take_feed(struct node_ports *p, const struct config *c, char *error,
                            size_t error_bytes) {
    if (strcmp(c->feed_listen, "none") == 0) return true;
    if (ports_asked_for(c->feed_listen) &&
        !ports_take(p, c->feed_listen, "for replicas (--feed-listen)", error, error_bytes))
        return false;
    return !ports_asked_for(c->notify_listen) ||
           ports_take(p, c->notify_listen, "for notifications (--notify-listen)", error,
                      error_bytes);
}

bool node_ports_hold(struct node_ports *p, const struct config *c, const char *peers, char *error,
                     size_t error_bytes) {
    char states[ENDPOINT_BYTES_MAX];
    *p = (struct node_ports){.count = 0};
    bool good = transport_next_endpoint(peers, states, sizeof states, error, error_bytes) &&
                ports_take(p, peers, "where other nodes shall find this one (--peer-listen; "
                           "without it, 4 ports below --listen)", error, error_bytes) &&
                ports_take(p, states, "for stored states on their way (always the port behind "
                           "--peer-listen)", error, error_bytes);
    good = good && ports_take_feed(p, c, error, error_bytes);
    if (!good) node_ports_release(p);
    return good;
}

bool node_ports_try_shards(const struct config *c, uint32_t shards, char *error,
                           size_t error_bytes) {
    for (uint32_t i = 0; i < shards; i++) {
        char address[ENDPOINT_BYTES_MAX], use[96];
        struct node_ports p = {.count = 0};
        snprintf(use, sizeof use, "for clients of shard %u (%u above the port of --listen)", i,
                 i + 1);
        if (!shard_map_endpoint_of(c->listen, i, address, sizeof address, error, error_bytes) ||
            !ports_take(&p, address, use, error, error_bytes))
            return false;
        node_ports_release(&p);
    }
    return true;
}

bool node_ports_try(const struct config *c, uint32_t shards, char *error, size_t error_bytes) {
    struct node_ports p = {.count = 0};
    bool good = ports_take(&p, c->listen, "for clients (--listen)", error, error_bytes) &&
                ports_take_feed(&p, c, error, error_bytes);
    node_ports_release(&p);
    return good && node_ports_try_shards(c, shards, error, error_bytes);
}

void node_ports_release(struct node_ports *p) {
    for (uint32_t i = 0; i < p->count; i++) {
        nng_stream_listener_close(p->listeners[i]);
        nng_stream_listener_free(p->listeners[i]);
    }
    p->count = 0;
}
