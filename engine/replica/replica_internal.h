/* What the files of the replica share. */
#ifndef JUMUN_REPLICA_REPLICA_INTERNAL_H
#define JUMUN_REPLICA_REPLICA_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/feed/notify.h"
#include "engine/feed/feed_copies.h"
#include "engine/limits.h"
#include "engine/replica/applier.h"
#include "engine/replica/follower.h"
#include "engine/replica/query_server.h"
#include "engine/replica/replica.h"

/* What is known of a shard beside its rows. */
struct replica_shard {
    atomic_bool followed;          /* a batch or a heartbeat has come */
    atomic_bool existing;          /* a node told of it */
    atomic_bool building;          /* begun from nothing (or not at all), not up to date yet */
    atomic_bool partial;           /* its rows may lack something: see `why` in the log */
    atomic_bool retired;           /* its log has ended */
    atomic_llong fresh_ms;         /* last known to be up to date, monotonic; 0 = never */
    atomic_ullong index, commit;   /* applied; newest that the node told of */
    atomic_llong time_ms;          /* of the newest applied entry */
    atomic_ullong import_from;     /* an import is required: the log goes on from here; 0 = none */
    atomic_bool importing;         /* its state is being fetched, or taken in */
    atomic_uint import_failures;   /* one behind the other */
    atomic_llong import_again_ms;  /* not fetched before then, monotonic */
    char import_why[512];          /* it failed last; guarded by the replica's `lock` */
};

/* A fetched state of a shard, on its way to the applier. */
struct replica_import {
    struct replica_import *next;
    uint32_t shard;
    uint64_t index;
    char path[1200];
};

struct replica {
    struct replica_config config;
    struct view_store *store;
    struct applier *applier;       /* its thread's */
    struct replica_import *import; /* that it is taking in; NULL = none */
    struct applier_import *import_steps;
    int64_t import_left_ms;        /* it was left to take batches; monotonic */
    bool import_waits;             /* for the disk */
    struct follower *follower;
    struct query_server *queries;
    struct notifier *notifier;     /* NULL = none */
    struct feed_copies *snapshots;
    pthread_t importer;
    bool importer_started;
    nng_aio *import_with;          /* what the importer waits with; stopped at the end */
    atomic_bool stopping;
    pthread_t thread, writer;
    bool thread_started, writer_started;
    bool urgent;               /* the applier has asked for its nice value */
    pthread_mutex_t write_lock;    /* guards `write_asked`..`builds`; those read without it, too */
    pthread_cond_t write_wake, written;
    bool write_asked, write_stop;
    uint64_t writes;               /* transactions, and attempts for which there was no room */
    unsigned rebuild_asked;        /* bit = enum view_number: to be built anew, not begun yet */
    uint64_t rebuild_from[SHARDS_MAX]; /* ... once the disk has got as far as this */
    struct replica_build {
        atomic_bool building;      /* or asked for */
        atomic_ullong orders_done, orders_built, generation;
    } builds[VIEWS_COUNT];         /* as of the newest transaction */
    atomic_bool write_now;         /* somebody waits for the disk to have what is published */
    pthread_mutex_t lock;          /* guards `first`..`applier_stats`, and shards' `import_why` */
    pthread_cond_t wake;
    struct follower_batch *first, **last;
    struct replica_import *imports; /* fetched */
    bool stop;
    bool disk_moved;               /* there was a transaction since the applier's thread waited */
    char cluster_id[CLUSTER_ID_BYTES]; /* the views', or that of the nodes; "" = not met yet */
    struct applier_stats applier_stats;
    atomic_uint shards_count;      /* that the cluster spreads new orders over; 0 = not met yet */
    atomic_bool no_room;
    int64_t started_ms, started_mono_ms;
    /* From the decision of an entry at its shard to its visibility here, while up to date: by the
     * clocks of both machines, so an upper bound of the lag where they agree. */
    struct histogram lag;
    struct histogram commit_lag; /* from its commit */
    struct replica_shard shards[SHARDS_MAX];
};

/* The applier's thread (replica_apply.c). */
void *replica_apply_main(void *replica);

/* The applier's thread, after a publication: what `shards` tell of its positions. */
void replica_note_positions(struct replica *replica);

/* The thread that writes the disk (replica_write.c). */
void *replica_write_main(void *replica);
/* The applier's thread, after each publication: gives it to the writer when it is time (true);
 * waits for the writer when there is no more room in memory. */
bool replica_hand_over(struct replica *replica);
/* Any thread: waits until the disk has what can be read now. RESULT_OK, or why that did not come:
 * `stop` did, or there is no room. */
int replica_wait_written(struct replica *replica, const atomic_bool *stop);

/* The shard's next entry, after the newest publication. Any thread. */
uint64_t replica_next(void *replica, uint32_t shard);

/* Fetches what shards need that the logs do not reach (replica_import.c); a thread of its own. */
void *replica_import_main(void *replica);
/* The applier's thread: takes in some of what was fetched. Returns how many milliseconds may pass
 * until the next call; -1 = until something has been fetched, or, with `import_waits`, the disk has
 * moved. */
int64_t replica_take_imports(struct replica *replica);
/* Once both threads have ended: leaves the rest. */
void replica_drop_imports(struct replica *replica);

/* Whether orders of some shard may be missing here: one is being built, imported, damaged, or
 * exists and has not come yet. */
bool replica_is_partial(struct replica *replica);

/* Makes a copy of the views for others (replica_import.c); fits feed_copies_options.make. */
int replica_make_snapshot(void *replica, uint32_t shard, const char *path, const atomic_bool *stop,
                          struct feed_copy_tokens *tokens, char *error, size_t error_bytes);

/* What of the views is being built now goes into `builds`. The writer's thread, or before it. */
void replica_note_builds(struct replica *replica);
/* Fits answer_source.rebuild (replica_write.c). */
bool replica_rebuild(void *replica, struct bytes view, struct answer_build *build,
                     const char **why);

/* Answers to STATUS and SHARD_MAP (replica_status.c). */
void replica_status(void *replica, struct msgpack_writer *writer);
void replica_shard_map(void *replica, struct msgpack_writer *writer);

#endif
