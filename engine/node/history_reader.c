#include "engine/node/history_reader.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/router/local_shards.h"
#include "engine/shard/history.h"

struct history_reader {
    struct storage *const *storages;
    pthread_t thread;
    pthread_mutex_t mutex;           /* guards all below */
    pthread_cond_t changed;
    struct request_part *first, **last;
    bool stop;
    uint64_t offered, finished;      /* parts */
    struct history_reader_stats stats;
};

/* A result that waits for its history says so by value_kind; result->shard says whose log it is. */
static uint64_t history_reader_read(struct history_reader *h, struct request_part *part) {
    struct request *r = part->request;
    uint64_t reads = 0;
    for (uint32_t i = 0; i < part->count; i++) {
        uint32_t position = request_part_position(part, i);
        struct result *result = &r->results[position];
        if (result->value_kind != RESULT_VALUE_HISTORY || result->code != RESULT_OK) continue;
        history_read(h->storages[local_shards_slot(result->shard)], part, position);
        reads++;
    }
    return reads;
}

static void *history_reader_main(void *arg) {
    struct history_reader *h = arg;
    pthread_setname_np(pthread_self(), "history");
    pthread_mutex_lock(&h->mutex);
    for (;;) {
        while (!h->first && !h->stop) pthread_cond_wait(&h->changed, &h->mutex);
        struct request_part *part = h->first;
        if (!part) break;
        h->first = part->next;
        if (!h->first) h->last = &h->first;
        h->stats.waiting--;
        pthread_mutex_unlock(&h->mutex);
        int64_t began_ns = clock_mono_ns();
        uint64_t reads = history_reader_read(h, part);
        request_part_done(part);
        int64_t took_ns = clock_mono_ns() - began_ns;
        pthread_mutex_lock(&h->mutex);
        h->finished++;
        pthread_cond_broadcast(&h->changed);
        h->stats.reads += reads;
        h->stats.read_ns += (uint64_t)took_ns;
    }
    pthread_mutex_unlock(&h->mutex);
    return NULL;
}

struct history_reader *history_reader_start(struct storage *const *storages, char *error,
                                            size_t error_bytes) {
    struct history_reader *h = calloc(1, sizeof *h);
    if (!h) {
        snprintf(error, error_bytes, "no memory for the history reader");
        return NULL;
    }
    h->storages = storages;
    h->last = &h->first;
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->changed, NULL);
    int rc = pthread_create(&h->thread, NULL, history_reader_main, h);
    if (rc == 0) return h;
    snprintf(error, error_bytes, "cannot start the history reader: %s", strerror(rc));
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->mutex);
    free(h);
    return NULL;
}

bool history_reader_offer(void *reader, struct shard *shard, struct request_part *part) {
    struct history_reader *h = reader;
    pthread_mutex_lock(&h->mutex);
    bool taken = !h->stop && h->stats.waiting < HISTORY_PARTS_MAX;
    if (taken) {
        part->next = NULL;
        *h->last = part;
        h->last = &part->next;
        h->stats.waiting++;
        h->offered++;
        pthread_cond_broadcast(&h->changed);
    } else {
        h->stats.refused++;
    }
    pthread_mutex_unlock(&h->mutex);
    return taken;
}

void history_reader_flush(struct history_reader *h) {
    pthread_mutex_lock(&h->mutex);
    uint64_t upto = h->offered; /* first come, first served */
    while (h->finished < upto) pthread_cond_wait(&h->changed, &h->mutex);
    pthread_mutex_unlock(&h->mutex);
}

void history_reader_stop(struct history_reader *h) {
    pthread_mutex_lock(&h->mutex);
    h->stop = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
    int rc = pthread_join(h->thread, NULL);
    require(rc == 0);
    require(h->first == NULL);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->mutex);
    free(h);
}

void history_reader_stats(struct history_reader *h, struct history_reader_stats *stats) {
    pthread_mutex_lock(&h->mutex);
    *stats = h->stats;
    pthread_mutex_unlock(&h->mutex);
}
