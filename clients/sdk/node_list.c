#include "clients/sdk/node_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/sdk/sdk_clock.h"

void node_list_init(struct node_list *list, const jumun_options *options,
                    void (*on_change)(void *arg, bool up), void *arg) {
    memset(list, 0, sizeof *list);
    pthread_mutex_init(&list->mutex, NULL);
    list->options = options;
    list->on_change = on_change;
    list->arg = arg;
}

void node_list_fini(struct node_list *list) {
    uint32_t count = atomic_load(&list->count);
    for (uint32_t i = 0; i < count; i++) endpoint_delete(atomic_load(&list->nodes[i]));
    pthread_mutex_destroy(&list->mutex);
}

static bool list_knows(struct node_list *list, const char *address) {
    uint32_t count = atomic_load(&list->count);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(atomic_load(&list->nodes[i])->addresses, address) == 0) return true;
    return false;
}

static int list_add_one(struct node_list *list, const char *address, char *error,
                        size_t error_bytes) {
    uint32_t count = atomic_load(&list->count);
    if (count == NODES_MAX || list_knows(list, address)) return 0;
    struct endpoint *e;
    int rc = endpoint_new(&e, address, list->options, list->on_change, list->arg, error,
                          error_bytes);
    if (rc != 0) return rc;
    atomic_store(&list->nodes[count], e);
    atomic_store(&list->count, count + 1);
    return 0;
}

int node_list_add(struct node_list *list, const char *addresses, char *error,
                  size_t error_bytes) {
    int rc = 0;
    const char *at = addresses;
    pthread_mutex_lock(&list->mutex);
    for (;;) {
        size_t size = strcspn(at, ",");
        char address[ENDPOINT_ADDRESSES_BYTES];
        snprintf(address, sizeof address, "%.*s", (int)size, at);
        rc = list_add_one(list, address, error, error_bytes);
        if (rc != 0 || at[size] == '\0') break;
        at += size + 1;
    }
    pthread_mutex_unlock(&list->mutex);
    return rc;
}

static bool is_good(struct endpoint *e) {
    return connection_is_up(&e->connection) && circuit_breaker_is_closed(&e->breaker) &&
           !endpoint_is_foreign(e) &&
           peer_may_be_node(atomic_load_explicit(&e->peer, memory_order_relaxed));
}

static bool is_mute(struct endpoint *e) {
    int64_t until_ns = atomic_load_explicit(&e->mute_until_ns, memory_order_relaxed);
    return until_ns != 0 && clock_coarse_ns() < until_ns;
}

static struct endpoint *list_at(struct node_list *list, uint32_t place) {
    return atomic_load_explicit(&list->nodes[place], memory_order_acquire);
}

/* The next good one behind `from` that is not mute; else `from`, if it is such a one; else the next
 * good one, or `from`. */
static uint32_t list_next(struct node_list *list, uint32_t from) {
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire), mute = from;
    for (uint32_t i = 1; i < count; i++) {
        uint32_t next = (from + i) % count;
        if (!is_good(list_at(list, next))) continue;
        if (!is_mute(list_at(list, next))) return next;
        if (mute == from) mute = next;
    }
    return is_good(list_at(list, from)) && !is_mute(list_at(list, from)) ? from : mute;
}

struct endpoint *node_list_pick(struct node_list *list) {
    uint32_t current = atomic_load_explicit(&list->current, memory_order_acquire);
    struct endpoint *e = list_at(list, current);
    if (is_good(e) && !is_mute(e)) return e;
    uint32_t next = list_next(list, current);
    if (next == current) return e;
    /* Whoever else moved it on meanwhile had the same reason. */
    atomic_compare_exchange_strong(&list->current, &current, next);
    return list_at(list, next);
}

void node_list_failed(struct node_list *list, const struct endpoint *endpoint) {
    uint32_t current = atomic_load_explicit(&list->current, memory_order_acquire);
    if (atomic_load_explicit(&list->nodes[current], memory_order_acquire) != endpoint) return;
    uint32_t next = list_next(list, current);
    if (next != current) atomic_compare_exchange_strong(&list->current, &current, next);
}

/* The bytes up to the port, which follows the last colon; 0 where there is none (inproc). */
static size_t host_bytes(const char *address) {
    const char *name = strstr(address, "://"), *port = strrchr(address, ':');
    return name && port > name ? (size_t)(port - address) : 0;
}

void node_list_suspect(struct node_list *list, struct endpoint *endpoint, int64_t now_ns) {
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
    size_t host = host_bytes(endpoint->addresses);
    atomic_store_explicit(&endpoint->mute_until_ns, now_ns + NODE_MUTE_NS, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        struct endpoint *e = list_at(list, i);
        if (host > 0 && host_bytes(e->addresses) == host &&
            memcmp(e->addresses, endpoint->addresses, host) == 0)
            atomic_store_explicit(&e->mute_until_ns, now_ns + NODE_MUTE_NS, memory_order_relaxed);
    }
}

void node_list_clear_foreign(struct node_list *list) {
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) endpoint_clear_foreign(list_at(list, i));
}

bool node_list_has(struct node_list *list, const struct endpoint *endpoint) {
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (atomic_load_explicit(&list->nodes[i], memory_order_acquire) == endpoint) return true;
    return false;
}

bool node_list_may_have_node(struct node_list *list) {
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (peer_may_be_node(atomic_load_explicit(&list_at(list, i)->peer, memory_order_relaxed)))
            return true;
    return false;
}

bool node_list_knows_node(struct node_list *list) {
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (atomic_load_explicit(&list_at(list, i)->peer, memory_order_relaxed) == PEER_NODE)
            return true;
    return false;
}

void node_list_look(struct node_list *list, int64_t now_ns) {
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) endpoint_look(list_at(list, i), list->options, now_ns);
}

void node_list_allow_probes(struct node_list *list) {
    uint32_t count = atomic_load(&list->count);
    for (uint32_t i = 0; i < count; i++)
        circuit_breaker_allow_probe(&atomic_load(&list->nodes[i])->breaker);
}
