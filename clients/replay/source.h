/* What a command reads from: the data directory of a node (running or not), a backup, one shard's
 * directory, or one segment: which of these it is, the directory itself tells. Or the feeds of live
 * nodes: "tcp://host:port", several separated by commas. */
#ifndef JUMUN_REPLAY_SOURCE_H
#define JUMUN_REPLAY_SOURCE_H

#include "engine/base/bytes.h"
#include "engine/limits.h"
#include "engine/wire/routing.h"
#include "persistence/log_source.h"
#include "persistence/state_source.h"

struct feed_link;

enum { SOURCE_PATH_BYTES = 960 };

struct source_shard {
    uint32_t number;
    char directory[SOURCE_PATH_BYTES];
    struct log_source *log;
    char state[SOURCE_PATH_BYTES + 16]; /* directory of the stored state; "" = there is none */
    char base[SOURCE_PATH_BYTES + 32];  /* of a backup: a stored state that the log goes on from */
    struct feed_link *link;    /* of a feed; NULL = a directory */
    bool clustered;            /* of a cluster's node: its tail may not be committed */
};

enum source_kind { SOURCE_DATA = 1, SOURCE_BACKUP, SOURCE_SHARD, SOURCE_SEGMENT, SOURCE_FEED };
enum { SOURCE_NODES_MAX = 16 };  /* feeds that are read as one source */
enum { SOURCE_NO_SHARD = -2 };   /* of source_open() */

struct source {
    char path[SOURCE_PATH_BYTES];
    enum source_kind kind;
    char cluster_id[CLUSTER_ID_BYTES]; /* "" = not told */
    char ancestors[ANCESTORS_MAX][CLUSTER_ID_BYTES]; /* clusters that went over into it */
    uint32_t ancestors_count;
    uint64_t node_id;          /* 0 = not told */
    uint32_t shards_told;      /* by node.json; 0 = not told */
    bool holds_listed;         /* backup.json lists its shards: older ones do not */
    bool holds[SHARDS_MAX];    /* shards that backup.json tells of, up to these records */
    uint64_t holds_upto[SHARDS_MAX];
    int64_t created_ms;
    struct routing_epoch epochs[EPOCHS_MAX]; /* of a cluster; sorted, the first from 0 */
    uint32_t epochs_count;     /* 0 = not told: one, of shards_told */
    uint32_t stores_shards;    /* with them: stores are spread over so many */
    bool clustered;            /* a cluster document lies beside the logs */
    bool in_cluster;           /* node.json says so: it need not have all shards */
    uint8_t generation;        /* that it has, or that node.json tells of */
    struct source_shard *shards;
    uint32_t count;
    struct feed_link *links[SOURCE_NODES_MAX];
    uint32_t links_count;
    char scratch[SOURCE_PATH_BYTES + 32]; /* of fetched states, removed at the end; "" = none */
};

/* Opens it; `only` >= 0: that shard alone. 0, or with a sentence -1, or SOURCE_NO_SHARD when it is
 * that one which is not there. */
int source_open(struct source *source, const char *path, int64_t only, char *error,
                size_t error_bytes);
void source_close(struct source *source);

/* Of a feed whose log does not reach back to record 1: fetches the stored states of such shards
 * into a directory below `scratch`, so that a fold can begin with them; then looks how far the logs
 * are. Nothing to be done for directories. 0, or -1 with a sentence. */
int source_fetch_states(struct source *source, const char *scratch, char *error,
                        size_t error_bytes);
/* What a feed could not do any more (log_source_failure()); NULL = nothing. */
const char *source_failure(const struct source *source);

/* The first shard from `number` on that should be there and has no log; -1 = none. The directory of
 * a node which stands alone should have all, a backup those that backup.json tells of. */
int64_t source_lost_shard(struct source *source, uint32_t number);
/* The record that a shard's stored state reflects; 0 = none, or it cannot be read. */
uint64_t source_stored(const struct source_shard *shard);
/* Whether a shard has no record left, although its stored state or backup.json tells of some, up to
 * record *told. */
bool source_lost_log(struct source *source, uint32_t *shard, uint64_t *told);

/* The place of a shard in source->shards; NULL = it is not there. */
struct source_shard *source_shard_of(struct source *source, uint32_t number);
/* The newest record up to `last` that the shard's group is known to have committed. All of a group
 * of one; of a group of several what the stored state covers: the tail behind may be replaced. 0 =
 * nothing is known yet of a shard of a cluster's node. */
uint64_t source_committed(const struct source_shard *shard, uint64_t last);
/* The shard that an order's key routes to, as far as the source tells; NULL = not known. */
struct source_shard *source_shard_of_key(struct source *source, const struct id128 *key);

/* Of a backup whose first runs were made by a version that listed no shards: a sentence about what
 * it cannot tell; "" = it is none, or tells. */
void source_backup_doubt(const struct source *source, char *sentence, size_t sentence_bytes);

/* Takes the newest base at or before record `upto` in the place of the one in shard->base. */
void source_base_before(struct source_shard *shard, uint64_t upto);

/* A point in the log as people write it. */
enum moment_kind { MOMENT_NONE = 0, MOMENT_TIME, MOMENT_INDEX };
struct moment {
    enum moment_kind kind;
    int64_t time_ms;
    uint64_t index;            /* of every shard that is not named apart */
    bool indexed;              /* `index` was given */
    uint32_t named_count;
    struct { uint32_t shard; uint64_t index; } named[SHARDS_MAX];
};

/* "1234", "0:1234,1:999", "10=1234" (as "10:12" is a time), "now" (INT64_MAX), or a time as
 * clients/cli/when.h reads it. A number of 12 digits and more is a time: "0:123456789012" would be
 * such an index. False with a sentence. */
bool moment_parse(const char *text, int64_t now_ms, struct moment *moment, char *error,
                  size_t error_bytes);
/* Whether a moment of indices has one of its own for this shard. */
bool moment_names(const struct moment *moment, uint32_t shard);
/* The last record that belongs to it; `none` for MOMENT_NONE. */
uint64_t moment_index(const struct moment *moment, const struct source_shard *shard, uint64_t none);

#endif
