/* What the files of the replica share. */
#ifndef JUMUN_REPLICA_REPLICA_INTERNAL_H
#define JUMUN_REPLICA_REPLICA_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/feed/notify.h"
#include "engine/replica/applier.h"
#include "engine/replica/follower.h"
#include "engine/replica/query_server.h"
#include "engine/replica/replica.h"

/* What is known of a shard beside its rows. */
struct replica_shard {
    atomic_bool followed;          /* a batch or a heartbeat has come */
    atomic_bool partial;           /* its rows may lack something: see `why` in the log */
    atomic_llong fresh_ms;         /* last known to be up to date, monotonic; 0 = never */
    atomic_ullong index, commit;   /* applied; newest that the node told of */
    atomic_llong time_ms;          /* of the newest applied entry */
    atomic_ullong import_from;     /* an import is required: the log goes on from here; 0 = none */
};

struct replica {
    struct replica_config config;
    struct view_store *store;
    struct applier *applier;       /* its thread's */
    struct follower *follower;
    struct query_server *queries;
    struct notifier *notifier;     /* NULL = none */
    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;          /* guards `first`..`applier_stats` */
    pthread_cond_t wake;
    struct follower_batch *first, **last;
    bool stop;
    char cluster_id[33];           /* "" = not met yet */
    struct applier_stats applier_stats;
    atomic_uint shards_count;      /* that the cluster spreads new orders over; 0 = not met yet */
    atomic_bool no_room;
    int64_t started_ms, started_mono_ms;
    struct histogram lag;
    struct replica_shard shards[SHARDS_MAX];
};

/* The applier's thread (replica_apply.c). */
void *replica_apply_main(void *replica);

/* Answers to STATUS and SHARD_MAP (replica_status.c). */
void replica_status(void *replica, struct msgpack_writer *writer);
void replica_shard_map(void *replica, struct msgpack_writer *writer);

#endif
