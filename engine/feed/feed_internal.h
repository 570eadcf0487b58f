/* What the files of the feed share. */
#ifndef JUMUN_FEED_FEED_INTERNAL_H
#define JUMUN_FEED_FEED_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/feed/feed.h"
#include "engine/feed/feed_batch.h"
#include "engine/feed/feed_gather.h"
#include "engine/feed/notify.h"
#include "engine/feed/responder.h"
#include "engine/feed/feed_copies.h"
#include "engine/limits.h"
#include "engine/wire/feed_decode.h"

enum { FEED_THREADS_MAX = 8 };

/* A request that is being answered or waits. */
struct feed_waiter {
    struct feed_waiter *next;
    struct responder_slot *slot;
    struct feed_request request;
    int64_t asked_ms, until_ms; /* monotonic */
};

struct feed_shard {
    struct feed_source source; /* storage NULL = not here */
    uint32_t users;            /* threads that read it now */
    bool leaving;
    uint64_t added;            /* which one of all that were added: another log each time */
};

struct feed_thread {
    struct feed *feed;
    pthread_t thread;
    uint32_t position;
    pthread_mutex_t lock;      /* guards `incoming` and `stop` */
    pthread_cond_t wake;
    struct feed_waiter *incoming;
    bool stop;
    atomic_ullong waiting;     /* of `waiters`, for who asks */
    struct feed_waiter *waiters; /* its own from here on */
    uint8_t *buffer;           /* FEED_BATCH_ROOM_BYTES: the payload of `batch` */
    struct feed_request read;  /* what `batch` was read for; from == 0: there is none */
    uint64_t read_added;       /* and of which log */
    struct feed_batch batch;
    int64_t moved_ms;          /* when something was last served, monotonic */
    int64_t far_ms;            /* when somebody far back was last served; 0 = never */
    int nice;                  /* what it runs at */
    bool patient;              /* the node is; so is the thread while it serves who is far back */
    bool told_refusal;         /* that it may not run at what it was asked to */
    uint64_t notified[SHARDS_MAX + 1];
    struct feed_gather gather[SHARDS_MAX];
    uint64_t fault_index[SHARDS_MAX + 1]; /* a fault of the log that was told already */
};

struct feed {
    char cluster_id[CLUSTER_ID_BYTES];
    uint64_t node_id;
    atomic_uint shards_count;
    struct responder *responder;
    struct feed_copies *snapshots; /* NULL = none */
    struct notifier *notifier; /* NULL = none */
    pthread_mutex_t lock;      /* guards `shards`, `added` and `active` */
    uint64_t added;            /* shards so far */
    uint8_t active[SHARDS_MAX / 8];
    bool active_known;
    pthread_cond_t left;
    struct feed_shard shards[SHARDS_MAX + 1]; /* the last one: the meta group's, never served */
    uint32_t threads_count;
    int nice;
    struct feed_thread *threads;
    bool started, stopped;
    atomic_ullong refused, overloaded, imports_required, entries, bytes, shared;
};

/* The shard's source while it is being read; false = it is not here. Each true is followed by
 * feed_leave(). */
bool feed_enter(struct feed *feed, uint32_t shard, struct feed_source *source);
void feed_leave(struct feed *feed, uint32_t shard);

/* Answers a request if it can be; false = it has to wait. (feed_serve.c) [feed thread] */
bool feed_serve(struct feed_thread *thread, struct feed_waiter *waiter, int64_t now_ms);

/* Tells subscribers what has been committed since the last look. (feed_serve.c) [feed thread] */
void feed_notify(struct feed_thread *thread);

#endif
