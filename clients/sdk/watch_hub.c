#include <stdio.h>
#include <stdlib.h>

#include "clients/sdk/watch.h"
#include "engine/base/clock.h"
#include "engine/wire/routing.h"

#define HUB_SCAN_NS 20000000LL

uint64_t watch_bucket(const void *topic, size_t bytes) {
    return routing_hash(topic, bytes) % WATCH_BUCKETS;
}

void watch_hub_queue(struct watch_hub *hub, jumun_watch *w) {
    if (w->queued || w->state == WATCH_DONE || w->state == WATCH_FETCHING) return;
    w->queued = true;
    w->next_due = NULL;
    if (hub->due_tail) hub->due_tail->next_due = w;
    else hub->due_head = w;
    hub->due_tail = w;
    pthread_cond_signal(&hub->work);
}

/* -- what is heard ----------------------------------------------------------------------------- */

static uint64_t watch_since(const jumun_watch *w, uint32_t shard) {
    for (uint32_t i = 0; i < w->since_count; i++)
        if (w->since[i].shard == shard) return w->since[i].index;
    return 0;
}

static void watch_hears(struct watch_hub *hub, jumun_watch *w, const jumun_token *token) {
    if (w->began && token->index <= watch_since(w, token->shard)) return; /* told already */
    uint32_t i = 0;
    while (i < w->heard_count && w->heard[i].shard != token->shard) i++;
    if (i == w->heard_count && i < WATCH_HEARD_MAX)
        w->heard[w->heard_count++] = (jumun_token){token->shard, 0};
    if (i < WATCH_HEARD_MAX && w->heard[i].index < token->index) w->heard[i].index = token->index;
    w->dirty = true;
    if (w->state == WATCH_RESTING) watch_hub_queue(hub, w);
}

/* A thread of nng. */
static void hub_on_heard(void *arg, const struct heard *heard) {
    struct watch_hub *hub = arg;
    pthread_mutex_lock(&hub->lock);
    if (!heard) { /* a publisher came (back): what it told before is not known */
        for (jumun_watch *w = hub->all; w; w = w->next_all) {
            w->dirty = true;
            if (w->state == WATCH_RESTING) watch_hub_queue(hub, w);
        }
    } else {
        jumun_watch *w = hub->buckets[watch_bucket(heard->topic, heard->topic_bytes)];
        for (; w; w = w->next_same_hash)
            if (strlen(w->topic) == heard->topic_bytes &&
                memcmp(w->topic, heard->topic, heard->topic_bytes) == 0)
                watch_hears(hub, w, &heard->token);
    }
    pthread_mutex_unlock(&hub->lock);
}

void watch_notify_address(const char *replica, const char *notify, char *address,
                          size_t address_bytes) {
    static const char *const anys[] = {"://0.0.0.0:", "://[::]:", "://*:", "://:"};
    const char *host = strstr(replica, "://"), *port = strrchr(replica, ':');
    for (size_t i = 0; i < sizeof anys / sizeof anys[0]; i++) {
        const char *any = strstr(notify, anys[i]);
        if (!any || !host || !port || port <= host + 2) continue;
        snprintf(address, address_bytes, "%.*s%.*s:%s", (int)(any - notify), notify,
                 (int)(port - host), host, any + strlen(anys[i]));
        return;
    }
    snprintf(address, address_bytes, "%s", notify);
}

void watch_hub_listen(jumun_queries *q, uint32_t number, const char *replica,
                      const char *notify) {
    char address[ENDPOINT_ADDRESSES_BYTES];
    struct watch_hub *hub = atomic_load(&q->hub);
    if (!hub) return;
    watch_notify_address(replica, notify, address, sizeof address);
    subscription_dial(hub->subscription, number, address);
}

void watch_hub_look(jumun_queries *q, int64_t now_ns) {
    struct watch_hub *hub = atomic_load(&q->hub);
    if (hub) subscription_look(hub->subscription, now_ns);
}

/* -- workers ----------------------------------------------------------------------------------- */

/* Watches that look by themselves now. */
static void hub_scan(struct watch_hub *hub, int64_t now_ns) {
    if (now_ns - hub->scanned_ns < HUB_SCAN_NS) return;
    hub->scanned_ns = now_ns;
    for (jumun_watch *w = hub->all; w; w = w->next_all)
        if (w->state == WATCH_RESTING && w->due_ns <= now_ns) watch_hub_queue(hub, w);
}

static void hub_sleep(struct watch_hub *hub, int64_t now_ns) {
    int64_t due_ns = INT64_MAX;
    for (jumun_watch *w = hub->all; w; w = w->next_all)
        if (w->state == WATCH_RESTING && w->due_ns < due_ns) due_ns = w->due_ns;
    if (due_ns == INT64_MAX) {
        pthread_cond_wait(&hub->work, &hub->lock);
        return;
    }
    if (due_ns < hub->scanned_ns + HUB_SCAN_NS) due_ns = hub->scanned_ns + HUB_SCAN_NS;
    struct timespec until = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000};
    pthread_cond_timedwait(&hub->work, &hub->lock, &until);
}

static void *hub_worker(void *arg) {
    struct watch_hub *hub = arg;
    pthread_mutex_lock(&hub->lock);
    while (!hub->closing) {
        int64_t now_ns = clock_mono_ns();
        hub_scan(hub, now_ns);
        jumun_watch *w = hub->due_head;
        if (!w) {
            hub_sleep(hub, now_ns);
            continue;
        }
        hub->due_head = w->next_due;
        if (!hub->due_head) hub->due_tail = NULL;
        w->queued = false;
        watch_work(hub, w);
    }
    pthread_mutex_unlock(&hub->lock);
    return NULL;
}

/* -- life -------------------------------------------------------------------------------------- */

static void hub_free(struct watch_hub *hub) {
    subscription_close(hub->subscription);
    pthread_cond_destroy(&hub->work);
    pthread_cond_destroy(&hub->changed);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

static void hub_stop_workers(struct watch_hub *hub) {
    pthread_mutex_lock(&hub->lock);
    hub->closing = true;
    pthread_cond_broadcast(&hub->work);
    pthread_mutex_unlock(&hub->lock);
    for (uint32_t i = 0; i < hub->workers_count; i++) pthread_join(hub->workers[i], NULL);
}

static struct watch_hub *hub_new(jumun_queries *q) {
    pthread_condattr_t attr;
    struct watch_hub *hub = calloc(1, sizeof *hub);
    if (!hub) return NULL;
    hub->queries = q;
    pthread_mutex_init(&hub->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->work, &attr);
    pthread_cond_init(&hub->changed, &attr);
    pthread_condattr_destroy(&attr);
    hub->subscription = subscription_open(hub_on_heard, hub, &q->replicas.breaker);
    bool ok = hub->subscription != NULL;
    while (ok && hub->workers_count < WATCH_WORKERS) {
        ok = pthread_create(&hub->workers[hub->workers_count], NULL, hub_worker, hub) == 0;
        if (ok) hub->workers_count++;
    }
    if (ok) return hub;
    hub_stop_workers(hub);
    hub_free(hub);
    return NULL;
}

struct watch_hub *watch_hub_of(jumun_queries *q) {
    pthread_mutex_lock(&q->hub_lock);
    struct watch_hub *hub = atomic_load(&q->hub);
    if (!hub && (hub = hub_new(q))) {
        atomic_store(&q->hub, hub);
        pthread_mutex_lock(&q->lock);
        for (uint32_t i = 0; i < q->replicas.count; i++) q->replicas.replicas[i].ping_due_ns = 0;
        queries_wake(q, 0);
        pthread_mutex_unlock(&q->lock);
    }
    pthread_mutex_unlock(&q->hub_lock);
    return hub;
}

void watch_hub_stop(jumun_queries *q) {
    struct watch_hub *hub = atomic_load(&q->hub);
    if (!hub) return;
    hub_stop_workers(hub);
    while (hub->all) jumun_watch_close(hub->all);
}

void watch_hub_delete(jumun_queries *q) {
    struct watch_hub *hub = atomic_load(&q->hub);
    if (!hub) return;
    atomic_store(&q->hub, NULL);
    hub_free(hub);
}
