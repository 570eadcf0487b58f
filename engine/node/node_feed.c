#include "engine/node/node_feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/node/node.h"
#include "engine/node/ports.h"

enum { NODE_FEED_SHARDS_PER_THREAD = 8 };

static bool is_none(const char *address) { return strcmp(address, "none") == 0; }

/* The addresses that are asked for or follow from --listen, or (`anywhere`) such with port 0. */
static bool feed_addresses(const struct config *c, bool anywhere, char *listen, char *notify) {
    bool good = true;
    char any[ENDPOINT_BYTES_MAX];
    const char *colon = strrchr(c->listen, ':');
    snprintf(any, sizeof any, "%s", c->listen);
    if (anywhere && colon) snprintf(any, sizeof any, "%.*s:0", (int)(colon - c->listen), c->listen);
    if (c->feed_listen[0]) snprintf(listen, ENDPOINT_BYTES_MAX, "%s", c->feed_listen);
    else good = node_port_address(any, NODE_PORT_FEED, "feed", listen, ENDPOINT_BYTES_MAX);
    if (c->notify_listen[0]) snprintf(notify, ENDPOINT_BYTES_MAX, "%s", c->notify_listen);
    else good = good && node_port_address(any, NODE_PORT_NOTIFY, "notify", notify,
                                          ENDPOINT_BYTES_MAX);
    return good;
}

bool node_feed_open(struct node *n, char *error, size_t error_bytes) {
    const struct config *c = &n->config;
    char listen[ENDPOINT_BYTES_MAX], notify[ENDPOINT_BYTES_MAX];
    char snapshots[sizeof c->data + 32];
    if (is_none(c->feed_listen)) return true;
    snprintf(snapshots, sizeof snapshots, "%s/feed-snapshots", c->data);
    struct feed_options options = {.listen = listen,
                                   .tls = &n->tls,
                                   .snapshots = snapshots,
                                   .nice = c->feed_nice,
                                   .cluster_id = n->identity.cluster_id,
                                   .node_id = n->identity.node_id,
                                   .shards_count = n->shards_count,
                                   .threads = 1 + n->shards_count / NODE_FEED_SHARDS_PER_THREAD};
    bool asked_for = c->feed_listen[0] && c->notify_listen[0];
    for (int attempt = 0; attempt < 2 && !n->feed; attempt++) {
        if (!feed_addresses(c, attempt > 0, listen, notify)) {
            snprintf(error, error_bytes, "the address \"%s\" leaves none for the feed: see "
                     "--feed-listen", c->listen);
            return false;
        }
        options.notify = is_none(notify) ? NULL : notify;
        n->feed = feed_open(&options, error, error_bytes);
        if (!n->feed && (asked_for || attempt > 0)) return false;
        if (!n->feed) log_info("%s: the feed takes a free port", error);
    }
    snprintf(n->map.feed_endpoint, sizeof n->map.feed_endpoint, "%s", feed_endpoint(n->feed));
    snprintf(n->map.notify_endpoint, sizeof n->map.notify_endpoint, "%s",
             feed_notify_endpoint(n->feed));
    return true;
}

static uint64_t shard_committed(void *arg) { return shard_commit_index(arg); }

static bool shard_committed_known(void *arg) { return shard_commit_is_known(arg); }

static uint32_t shard_moments(void *arg, uint64_t from, uint64_t last,
                              struct commit_moment *moments, uint32_t max) {
    return shard_commit_times(arg, from, last, moments, max);
}

void node_feed_add(struct node *n, uint32_t shard, struct shard *s) {
    if (!n->feed || shard == SHARD_META) return;
    const struct feed_source source = {n->storages[shard], shard_committed, shard_moments, s,
                                       shard_committed_known};
    feed_add(n->feed, shard, &source);
}

bool node_feed_start(struct node *n, char *error, size_t error_bytes) {
    if (!n->feed) return true;
    if (n->view.version != 0) feed_set_active(n->feed, n->view.active);
    return feed_start(n->feed, error, error_bytes);
}
