/* What the files of `jumun-replay verify` share. */
#ifndef JUMUN_REPLAY_VERIFY_H
#define JUMUN_REPLAY_VERIFY_H

#include <pthread.h>

#include "clients/replay/replay.h"

/* Stores, board notes and cursors reflect one entry exactly: taken before the log is read, compared
 * when the fold comes to that entry. */
struct verify_row { struct id128 key; uint64_t digest; uint64_t offset; };
struct verify_rows { struct verify_row *rows; uint32_t count, capacity; };

struct verify_cursors {
    uint64_t stores_index;
    int64_t stores_time_ms;
    uint64_t totals[FOLD_STATES_MAX];
    struct { bool found; uint64_t value[5]; } peers[SHARDS_MAX];
    bool found;
    bool growth_found;
    struct fold_growth growth;
};

/* Records that the log was found to lack, so that nobody can say what they did. */
struct verify_lost { uint64_t from, upto; };
enum { VERIFY_LOST_MAX = 64 };

struct verify_shard {
    struct verify *verify;
    struct source_shard *source;
    struct fold *fold;
    struct state_source *state;        /* NULL = none is stored */
    struct state_source_marker marker;
    struct verify_cursors cursors;
    struct verify_rows stores, boards;
    uint64_t upto;                     /* the cut: newest record when the work began */
    uint64_t snapshots, snapshots_unjudged, timers;
    struct verify_lost lost[VERIFY_LOST_MAX];
    uint32_t lost_count;
    bool live;                         /* a node had the state open when it began to be read */
    struct fold_hash hash;
};

/* Faults of one kind in one shard. */
struct verify_count { uint32_t kind, shard; uint64_t faults, shown; };

struct verify {
    struct replay *replay;
    struct verify_shard *shards;       /* as in replay->source */
    uint32_t count;
    bool with_hash, with_state;
    int64_t faults_shown_max;          /* of a kind in a shard */
    pthread_mutex_t lock;              /* guards what is below */
    uint64_t faults, messages;
    struct verify_count *counts;       /* by kind and shard, as they came */
    uint32_t counts_count, counts_capacity;
    json_t *json;                      /* array of faults; NULL = printed as they come */
    json_t *notes;                     /* what is no fault, and may not be what one thinks */
};

/* Behind the folds: of a state that is not there, and of what a backup cannot tell. A fault
 * where the log cannot make up for it. */
void verify_note_all(struct verify *v);

/* Tells a fault: printed or put into the list. Any thread. */
void verify_tell(struct verify *v, const struct fold_fault *fault);
/* A fault of the stored state: `table` and offset name the row. */
void verify_tell_state(struct verify_shard *s, uint32_t kind, const struct id128 *key,
                       uint32_t version, const char *table, uint64_t offset, const char *format,
                       ...) __attribute__((format(printf, 7, 8)));

/* Whether a record is one of those that the log was found to lack. */
bool verify_has_lost(const struct verify_shard *s, uint64_t index);
/* Tells of the files of segments; `state_knows_more`: those that hold nothing, although the stored
 * state reflects what lies behind the end of the log. */
void verify_segments(struct verify_shard *s, bool state_knows_more);

/* Before the log is read: marker, cursors, stores, boards of one moment. */
void verify_state_capture(struct verify_shard *s);
/* When the fold stands at cursors.stores_index. */
void verify_state_exact(struct verify_shard *s);
/* Behind the fold: every snapshot of an order, and the timers. */
void verify_state_orders(struct verify_shard *s);
void verify_state_free(struct verify_shard *s);

/* Behind all folds: what each shard sent the others have seen, once and as it was. */
void verify_messages(struct verify *v);

#endif
