#include "engine/egress/egress.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/doorbell.h"

struct egress {
    _Alignas(64) _Atomic(struct egress_item *) top; /* newest first */
    _Alignas(64) struct doorbell bell;
    atomic_bool stop;
    pthread_t thread;
    void (*send)(struct egress_item *item);
};

/* Oldest first. */
static struct egress_item *egress_turned(struct egress_item *newest) {
    struct egress_item *first = NULL;
    while (newest) {
        struct egress_item *next = newest->next;
        newest->next = first;
        first = newest;
        newest = next;
    }
    return first;
}

static void *egress_main(void *arg) {
    struct egress *e = arg;
    pthread_setname_np(pthread_self(), "egress");
    for (;;) {
        doorbell_hear(&e->bell);
        bool stop = atomic_load(&e->stop); /* before the look: what was offered before it is sent */
        struct egress_item *item = egress_turned(atomic_exchange(&e->top, NULL));
        if (!item && stop) return NULL;
        if (!item) doorbell_sleep(&e->bell, -1);
        while (item) {
            struct egress_item *next = item->next; /* the item is gone once it is sent */
            e->send(item);
            item = next;
        }
    }
}

struct egress *egress_start(void (*send)(struct egress_item *item), char *error,
                            size_t error_bytes) {
    struct egress *e = aligned_alloc(64, (sizeof *e + 63) / 64 * 64);
    if (!e) {
        snprintf(error, error_bytes, "no memory for the thread that sends replies");
        return NULL;
    }
    memset(e, 0, sizeof *e);
    e->send = send;
    int rc = pthread_create(&e->thread, NULL, egress_main, e);
    if (rc == 0) return e;
    snprintf(error, error_bytes, "cannot start the thread that sends replies: %s", strerror(rc));
    free(e);
    return NULL;
}

void egress_offer(struct egress *e, struct egress_item *item) {
    struct egress_item *top = atomic_load_explicit(&e->top, memory_order_relaxed);
    do item->next = top;
    while (!atomic_compare_exchange_weak_explicit(&e->top, &top, item, memory_order_release,
                                                  memory_order_relaxed));
    doorbell_ring(&e->bell);
}

void egress_stop(struct egress *e) {
    atomic_store(&e->stop, true);
    doorbell_ring(&e->bell);
    int rc = pthread_join(e->thread, NULL);
    require(rc == 0);
    require(atomic_load(&e->top) == NULL);
    free(e);
}
