/* rebuild, restore: a data directory that jumund starts from, made from a log. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/cli/text.h"
#include "clients/replay/begun.h"
#include "clients/replay/place.h"
#include "clients/replay/unseen.h"
#include "clients/replay/writer.h"

enum { BUILD_FAULTS_SHOWN = 10, BUILD_SORT_BYTES = 64 << 20 /* where there is no bound */ };

struct build {
    struct replay *replay;
    const char *target;
    struct cut cut;
    atomic_uint faults_told;
    struct begun begun;
};

/* How many shards the directory has: those of every epoch, as far as the source tells. */
static uint32_t build_shards(const struct build *b) {
    const struct source *source = &b->replay->source;
    uint32_t most = source->shards_told;
    for (uint32_t i = 0; i < source->epochs_count; i++) {
        if (source->epochs[i].shards_count > most) most = source->epochs[i].shards_count;
    }
    return most ? most : source->count;
}

/* What the stored state needs beside the fold, and only the records tell. */
struct build_tail {
    uint64_t term, configuration_index;
    uint8_t *configuration;
    uint32_t configuration_bytes;
    uint64_t acknowledged[SHARDS_MAX]; /* by peer: seen by it at its own cut */
    struct unseen unseen;
};

static bool tail_take(struct build_tail *t, const struct log_item *item) {
    t->term = item->header->term;
    if (item->header->type == RECORD_EVENTS &&
        item->header->payload_bytes >= sizeof(struct entry_header)) {
        const struct entry_header *entry = item->payload;
        return unseen_add_record(&t->unseen, item->index, entry + 1,
                                 item->header->payload_bytes - (uint32_t)sizeof *entry);
    }
    if (item->header->type != RECORD_CONFIGURATION) return true;
    uint8_t *copy = realloc(t->configuration, item->header->payload_bytes + 1);
    if (!copy) return false;
    memcpy(copy, item->payload, item->header->payload_bytes);
    t->configuration = copy;
    t->configuration_bytes = item->header->payload_bytes;
    t->configuration_index = item->index;
    return true;
}

/* Copies the log and folds it on the way. */
static int build_copy(struct replay_work *work, struct build *b, uint32_t i,
                      struct shard_writer *w, struct fold *f, struct build_tail *tail) {
    const struct source_shard *shard = &work->replay->source.shards[i];
    uint64_t first, last, steps = 0, upto = b->cut.shards[i].index;
    struct log_item item;
    enum log_step step;
    log_source_range(shard->log, &first, &last);
    struct log_cursor *c = log_cursor_open(shard->log, first, upto, true);
    int status = c ? REPLAY_DONE : REPLAY_FAILED;
    while (c && status == REPLAY_DONE && (step = log_cursor_next(c, &item)) != LOG_END) {
        if (step != LOG_RECORD) {
            replay_error(work->replay, "shard %u: record %" PRIu64 " (%s, offset %" PRIu64
                         "): %s; --to %u:%" PRIu64 " builds what came before it", shard->number,
                         item.index, item.segment, item.offset, item.what, shard->number,
                         item.index - 1);
            status = REPLAY_FAILED;
        } else if (!shard_writer_append(w, item.header, item.payload) || !tail_take(tail, &item)) {
            replay_error(work->replay, "shard %u: no memory, or no room on the disk",
                         shard->number);
            status = REPLAY_FAILED;
        } else if (item.index > f->index && !fold_take(f, step, &item)) {
            status = REPLAY_FAILED;
        }
        if (++steps % 256 == 0 && !replay_progress(work, 256)) status = REPLAY_STOPPED;
    }
    log_cursor_close(c);
    return status;
}

/* -- what peers have not seen -------------------------------------------------------------- */

/* The tail of a shard begins with what its peers have seen at their own cuts. */
static void tail_begin(struct build_tail *t, const struct build *b, uint32_t i) {
    const struct source *source = &b->replay->source;
    for (uint32_t j = 0; j < b->cut.count; j++) {
        t->acknowledged[source->shards[j].number] =
            b->cut.shards[j].seen[source->shards[i].number];
    }
    t->unseen.acknowledged = t->acknowledged;
}

static void tail_free(struct build_tail *t) {
    unseen_free(&t->unseen);
    free(t->configuration);
}

struct build_base { struct build_tail *tail; const char *fault; };

static bool base_message(void *arg, const struct state_source_row *row) {
    struct build_base *b = arg;
    const struct stored_message *m = row->value;
    b->fault = row->fault;
    if (!b->fault && !stored_message_is_well_formed(m, row->value_bytes)) {
        b->fault = "it is malformed";
    }
    if (!b->fault && !unseen_add(&b->tail->unseen, m->peer, m->sequence, m->actor.last_index,
                                 bytes_of(m + 1, m->payload_bytes))) {
        b->fault = "no memory";
    }
    return b->fault == NULL;
}

static bool base_configuration(struct build_tail *t, struct state_source *state, char *error,
                               size_t error_bytes) {
    struct state_source_marker marker;
    if (state_source_read_marker(state, &marker, error, error_bytes) != 0) return false;
    t->configuration_index = marker.configuration_index;
    t->configuration_bytes = marker.configuration_bytes;
    t->configuration = malloc(marker.configuration_bytes + 1u);
    if (t->configuration) {
        memcpy(t->configuration, marker.configuration, marker.configuration_bytes);
    }
    return t->configuration != NULL;
}

/* A log that was cut begins behind messages, and behind the configuration of its group, that only
 * the stored state still has. */
static bool tail_take_base(struct build_tail *t, const struct source_shard *shard, char *error,
                           size_t error_bytes) {
    struct build_base b = {.tail = t};
    if (!replay_log_is_cut(shard)) return true;
    const char *path = shard->base[0] ? shard->base : shard->state;
    struct state_source *state = state_source_open(path, error, error_bytes);
    bool ok = state && base_configuration(t, state, error, error_bytes) &&
              state_source_visit(state, STATE_SOURCE_MESSAGES, true, base_message, &b, error,
                                 error_bytes) == 0;
    state_source_close(state);
    if (!ok || !b.fault) return ok;
    snprintf(error, error_bytes, "%s: a message of the stored state: %s", path, b.fault);
    return false;
}

/* Every message that a peer still has to see is there; else the shards could never talk again. */
static bool unseen_is_whole(struct build *b, uint32_t i, const struct fold *f,
                            struct build_tail *t, char *error, size_t error_bytes) {
    const struct source *source = &b->replay->source;
    unseen_settle(&t->unseen);
    for (uint32_t j = 0; j < b->cut.count; j++) {
        uint32_t peer = source->shards[j].number;
        uint64_t missing = unseen_missing(&t->unseen, peer, f->sent[peer].last);
        if (i == j || missing == 0) continue;
        snprintf(error, error_bytes, "message %" PRIu64 " to shard %u, which that one has not seen "
                 "yet, is neither in the log nor in the stored state: choose a later moment",
                 missing, peer);
        return false;
    }
    return true;
}

/* The group of a node alone: one voter, itself (docs/formats.md, records of type 3). A log of a
 * cluster's node names voters that will never answer. */
static bool tail_alone(struct build_tail *t, uint64_t node_id, uint64_t index) {
    static const char address[] = "self";
    enum { BYTES = (1 + 8 + 8 + sizeof address + 1 + 7) & ~7u };
    const uint64_t one = 1, id = node_id ? node_id : 1;
    uint8_t alone[BYTES] = {1};
    memcpy(alone + 1, &one, 8);
    memcpy(alone + 9, &id, 8);
    memcpy(alone + 17, address, sizeof address);
    alone[17 + sizeof address] = 1; /* a voter */
    if (t->configuration_bytes == BYTES && memcmp(t->configuration, alone, BYTES) == 0) {
        return true;
    }
    uint8_t *copy = realloc(t->configuration, BYTES);
    if (!copy) return false;
    memcpy(copy, alone, BYTES);
    t->configuration = copy;
    t->configuration_bytes = BYTES;
    t->configuration_index = index;
    return true;
}

/* Of what a fold may have, for bringing its orders into the order of their keys. */
static uint64_t build_sort_bytes(const struct build *b, const struct source_shard *shard) {
    uint64_t all = replay_fold_options(b->replay, shard).memory_bytes_max;
    return all ? all / 4 : BUILD_SORT_BYTES;
}

static int build_store(struct build *b, uint32_t i, struct shard_writer *w, struct fold *f,
                       struct build_tail *tail, char *error, size_t error_bytes) {
    const struct source *source = &b->replay->source;
    uint32_t shards = build_shards(b);
    if (!unseen_is_whole(b, i, f, tail, error, error_bytes)) return REPLAY_NOT_THERE;
    if (f->growth.peers_count > shards) shards = f->growth.peers_count;
    if (source->shards[source->count - 1].number >= shards) {
        shards = source->shards[source->count - 1].number + 1;
    }
    if (!tail_alone(tail, source->node_id, b->cut.shards[i].index)) {
        snprintf(error, error_bytes, "no memory");
        return REPLAY_FAILED;
    }
    const struct shard_writer_marker marker = {
        .index = b->cut.shards[i].index, .term = tail->term,
        .configuration_index = tail->configuration_index, .configuration = tail->configuration,
        .configuration_bytes = tail->configuration_bytes, .unseen = &tail->unseen,
        .shards_count = shards, .sort_bytes = build_sort_bytes(b, &source->shards[i])};
    if (!shard_writer_sync(w, error, error_bytes)) return REPLAY_FAILED;
    shard_writer_vote(w, tail->term + 1);
    return shard_writer_store(w, f, &marker, error, error_bytes) ? REPLAY_DONE : REPLAY_FAILED;
}

static void build_fault(void *arg, const struct fold_fault *fault) {
    struct build *b = arg;
    uint32_t told = atomic_fetch_add(&b->faults_told, 1);
    if (told == BUILD_FAULTS_SHOWN) replay_error(b->replay, "... (verify lists all)");
    if (told >= BUILD_FAULTS_SHOWN) return;
    replay_error(b->replay, "shard %u, record %" PRIu64 ": %s: %s", fault->shard, fault->index,
                 fold_fault_name(fault->kind), fault->what);
}

/* A shard that was copied and stored: known to a run that has to go on with the others. */
static int build_keep(struct build *b, const struct source_shard *shard, const struct fold *f,
                      char *error, size_t error_bytes) {
    struct begun_shard *made = &b->begun.shards[shard->number];
    made->events = f->events;
    made->time_ms = f->time_ms;
    made->spread = f->growth.spread;
    made->version = f->growth.version > f->growth.spread.version ? f->growth.version
                                                                 : f->growth.spread.version;
    return begun_built(&b->begun, shard->number, error, error_bytes) ? REPLAY_DONE : REPLAY_FAILED;
}

static int build_shard(struct replay_work *work, uint32_t i) {
    struct build *b = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    if (b->begun.shards[shard->number].built) {
        replay_progress(work, b->cut.shards[i].index);
        return REPLAY_DONE;
    }
    struct build_tail tail = {.term = 0};
    char path[SOURCE_PATH_BYTES + 16], error[1200] = "";
    int status;
    struct fold_options options = replay_fold_options(work->replay, shard);
    options.fault = build_fault;
    options.arg = b;
    if (options.memory_bytes_max) options.memory_bytes_max -= build_sort_bytes(b, shard);
    struct fold *f =
        replay_fold_begin(work->replay, shard, &options, b->cut.shards[i].index, &status);
    snprintf(path, sizeof path, "%.900s/shard-%u", b->target, shard->number);
    if (status == REPLAY_DONE && !begun_clear(&b->begun, shard->number, error, sizeof error)) {
        status = REPLAY_FAILED;
    }
    struct shard_writer *w =
        status == REPLAY_DONE ? shard_writer_open(path, shard->number, error, sizeof error) : NULL;
    if (!w && status == REPLAY_DONE) status = REPLAY_FAILED;
    tail_begin(&tail, b, i);
    if (status == REPLAY_DONE && !tail_take_base(&tail, shard, error, sizeof error)) {
        status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) status = build_copy(work, b, i, w, f, &tail);
    if (status == REPLAY_DONE && f->faults > 0) {
        snprintf(error, sizeof error, "the log has %" PRIu64 " faults; nothing is built from it",
                 f->faults);
        status = REPLAY_FOUND;
    }
    if (f) b->begun.shards[shard->number].orders = fold_table_count(f->orders);
    if (status == REPLAY_DONE) status = build_store(b, i, w, f, &tail, error, sizeof error);
    shard_writer_close(w);
    if (status == REPLAY_DONE) status = build_keep(b, shard, f, error, sizeof error);
    if (status != REPLAY_DONE && error[0]) {
        replay_error(work->replay, "shard %u: %s", shard->number, error);
    }
    fold_close(f);
    tail_free(&tail);
    return status;
}

static int build_report(struct build *b) {
    struct replay *r = b->replay;
    json_t *shards = json_array();
    char count[TEXT_BYTES], events[TEXT_BYTES], time[TEXT_BYTES];
    for (uint32_t i = 0; i < b->cut.count; i++) {
        const struct source_shard *s = &r->source.shards[i];
        const struct begun_shard *made = &b->begun.shards[s->number];
        json_array_append_new(shards, json_pack("{s:i, s:I, s:I, s:I, s:I}", "shard",
                              (int)s->number, "index", (json_int_t)b->cut.shards[i].index,
                              "time_ms", (json_int_t)made->time_ms, "events",
                              (json_int_t)made->events, "orders", (json_int_t)made->orders));
        if (!r->json && !r->quiet) {
            printf("shard %u: up to record %" PRIu64 " (%s), %s events, %s orders\n", s->number,
                   b->cut.shards[i].index, text_time(time, made->time_ms),
                   text_count(events, made->events), text_count(count, made->orders));
        }
    }
    if (r->json) {
        return replay_print_json(json_pack("{s:s, s:o}", "target", b->target, "shards", shards),
                                 REPLAY_DONE);
    }
    json_decref(shards);
    if (!r->quiet) printf("%s is ready: jumund --data %s\n", b->target, b->target);
    return REPLAY_DONE;
}

/* -- the cut ------------------------------------------------------------------------------ */

/* The base that a log without its beginning goes on from must not be newer than the cut. True when
 * another one was taken. */
static bool build_choose_base(struct source_shard *shard, uint64_t cut) {
    unsigned long long index;
    const char *name = strrchr(shard->base, '/');
    if (!name || sscanf(name, "/base-%20llu", &index) != 1 || index <= cut) return false;
    source_base_before(shard, cut);
    return true;
}

/* Shards that growth has brought later than that, with the epochs that go over them. */
static void build_drop_unborn(struct build *b) {
    struct source *s = &b->replay->source;
    while (s->epochs_count > 1 && s->count > 1 && b->cut.shards[s->count - 1].index == 0) {
        struct source_shard *last = &s->shards[--s->count];
        b->cut.count = s->count;
        log_source_close(last->log);
        while (s->epochs_count > 1 && s->epochs[s->epochs_count - 1].shards_count > last->number) {
            s->epochs_count--;
        }
    }
}

/* The generation of a cluster document that goes over all that the logs know (docs/cluster.md,
 * "Generations"): whoever takes the directory, alone or into a cluster, is heard by its shards. 0 =
 * they know of none; UINT8_MAX + 1 = there is no higher one. */
static uint32_t build_generation(const struct build *b) {
    const struct source *s = &b->replay->source;
    bool known = s->clustered || s->generation > 0 || s->epochs_count > 1;
    uint64_t newest = s->generation;
    for (uint32_t i = 0; i < s->count; i++) {
        uint64_t version = b->begun.shards[s->shards[i].number].version;
        known |= version > 0;
        if (version >> 32 > newest) newest = version >> 32;
    }
    return !known ? 0 : newest < UINT8_MAX ? (uint32_t)newest + 1 : UINT8_MAX + 1;
}

/* Over how many shards stores are spread at the cut: the newest that any of them was told. */
static uint32_t build_stores_shards(const struct build *b) {
    const struct source *s = &b->replay->source;
    struct store_spread newest = {.shards = s->epochs_count ? s->epochs[0].shards_count : 0};
    for (uint32_t i = 0; i < s->count; i++) {
        const struct store_spread *spread = &b->begun.shards[s->shards[i].number].spread;
        if (spread->version > newest.version) newest = *spread;
    }
    return newest.shards;
}

/* Where each shard ends, and the bases that go with it: an older base may allow another cut. */
static int build_cut(struct build *b, const struct moment *to) {
    struct replay *r = b->replay;
    uint64_t first, last;
    bool moved = true;
    int status = REPLAY_DONE;
    b->cut.count = r->source.count;
    b->cut.shards = calloc(r->source.count, sizeof *b->cut.shards);
    if (!b->cut.shards) return REPLAY_FAILED;
    while (moved && status == REPLAY_DONE) {
        for (uint32_t i = 0; i < r->source.count; i++) {
            log_source_range(r->source.shards[i].log, &first, &last);
            uint64_t wanted = b->begun.goes_on
                                  ? b->begun.shards[r->source.shards[i].number].index
                                  : moment_index(to, &r->source.shards[i], last);
            b->cut.shards[i] = (struct cut_shard){.index = wanted < last ? wanted : last};
            build_choose_base(&r->source.shards[i], b->cut.shards[i].index);
        }
        status = cut_settle(r, &b->cut);
        moved = false;
        for (uint32_t i = 0; i < r->source.count; i++) {
            moved |= build_choose_base(&r->source.shards[i], b->cut.shards[i].index);
        }
    }
    build_drop_unborn(b);
    for (uint32_t i = 0; status == REPLAY_DONE && i < r->source.count; i++) {
        log_source_range(r->source.shards[i].log, &first, &last);
        if (b->cut.shards[i].index >= first && b->cut.shards[i].index > 0) continue;
        replay_error(r, "shard %u: its log begins later than that", r->source.shards[i].number);
        status = REPLAY_NOT_THERE;
    }
    return status;
}

static bool build_identity(const struct build *b, char *error, size_t error_bytes) {
    const struct source *s = &b->replay->source;
    const struct routing_epoch only = {0, build_shards(b)};
    uint32_t generation = build_generation(b), stores_shards = build_stores_shards(b);
    if (generation > UINT8_MAX) {
        snprintf(error, error_bytes, "these logs have outlived %u clusters: no more than that can "
                 "be counted", UINT8_MAX);
        return false;
    }
    const struct writer_identity identity = {
        .cluster_id = s->cluster_id, .node_id = s->node_id, .shards = only.shards_count,
        .epochs = s->epochs_count ? s->epochs : &only,
        .epochs_count = s->epochs_count ? s->epochs_count : 1,
        .stores_shards = stores_shards ? stores_shards : only.shards_count,
        .generation = (uint8_t)generation,
        .ancestors = s->ancestors, .ancestors_count = s->ancestors_count,
        .created_ms = s->created_ms ? s->created_ms : text_now_ms()};
    return writer_identity(b->target, "node.json", &identity, error, error_bytes);
}

static int build_all(struct build *b, const struct moment *to) {
    struct replay *r = b->replay;
    char error[1200];
    uint64_t total = 0;
    int status = begun_open(&b->begun, r, args_flag(&r->args, "continue"));
    if (status == REPLAY_DONE) status = build_cut(b, to);
    for (uint32_t i = 0; status == REPLAY_DONE && i < r->source.count; i++) {
        total += b->cut.shards[i].index;
    }
    if (status == REPLAY_DONE) status = begun_settle(&b->begun, r, &b->cut);
    if (status == REPLAY_DONE) {
        status = replay_run(r, r->source.count, "building", "records", total, build_shard, b);
    }
    /* Last: a directory without node.json is not whole, and says so. */
    if (status == REPLAY_DONE && !b->begun.whole && !build_identity(b, error, sizeof error)) {
        replay_error(r, "%s", error);
        status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) begun_end(&b->begun);
    else if (status == REPLAY_STOPPED && b->begun.lock >= 0 && !r->quiet) {
        replay_error(r, "%s is half-made: the same with --continue goes on with it", b->target);
    }
    begun_close(&b->begun);
    return status;
}

/* Every shard that a key may belong to has to be there. */
static int build_check_shards(struct build *b) {
    const struct source *source = &b->replay->source;
    uint32_t wanted = build_shards(b);
    if (source->shards_told && source->epochs_count == 0 && source->count > source->shards_told) {
        replay_error(b->replay, "%s has %u shards of a cluster that began with %u, and nothing "
                     "tells since when (cluster.msgpack, or \"epochs\" in backup.json): a "
                     "directory cannot be made of it", source->path, source->count,
                     source->shards_told);
        return REPLAY_FAILED;
    }
    for (uint32_t n = 0; n < wanted; n++) {
        if (source_shard_of(&b->replay->source, n)) continue;
        replay_error(b->replay, "%s has no shard %u of %u: a directory needs all of them",
                     source->path, n, wanted);
        return REPLAY_FAILED;
    }
    return REPLAY_DONE;
}

/* --continue of what an earlier run has finished: nothing is touched. */
static int build_was_finished(struct build *b, const struct moment *to) {
    struct replay *r = b->replay;
    char error[1200], path[SOURCE_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%.950s/node.json", b->target);
    json_t *made = place_read(path, error, sizeof error);
    const char *id = json_string_value(json_object_get(made, "cluster_id"));
    bool other = id && r->source.cluster_id[0] && strcmp(id, r->source.cluster_id) != 0;
    if (!id || other) {
        replay_error(r, "%s: %s", b->target, other ? "it was made of another cluster's log"
                                                   : "its node.json cannot be understood");
    }
    json_decref(made);
    if (!id) return REPLAY_FAILED;
    if (other) return REPLAY_OTHER_CLUSTER;
    int status = build_cut(b, to);
    if (status != REPLAY_DONE) return status;
    if (!begun_is_same(&b->begun, r, &b->cut, error, sizeof error)) {
        replay_error(r, "--continue: %s; nothing was touched", error);
        return REPLAY_FAILED;
    }
    if (r->json) {
        return replay_print_json(json_pack("{s:s, s:b}", "target", b->target, "finished", true),
                                 REPLAY_DONE);
    }
    if (!r->quiet) printf("%s is finished already: nothing is left to be done\n", b->target);
    return REPLAY_DONE;
}

int replay_build(struct replay *r) {
    struct build *b = calloc(1, sizeof *b);
    struct moment to;
    int64_t node_id = 0;
    char doubt[256];
    if (!b || !replay_moment(r, "to", &to) || !replay_int(r, "node-id", &node_id)) {
        free(b);
        return REPLAY_USAGE;
    }
    int status = replay_open_source(r);
    if (status == REPLAY_DONE && r->source.kind == SOURCE_FEED) {
        replay_error(r, "a directory is made of a directory or a backup: not of %s",
                     r->source.path);
        status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) {
        b->replay = r;
        b->target = b->begun.target = replay_word(r, 1);
        b->begun.to = args_value(&r->args, "to");
        if (node_id) r->source.node_id = (uint64_t)node_id;
        source_backup_doubt(&r->source, doubt, sizeof doubt);
        if (doubt[0] && !r->quiet) fprintf(stderr, "%s: %s\n", r->source.path, doubt);
        status = build_check_shards(b);
    }
    if (status == REPLAY_DONE && args_flag(&r->args, "continue") && begun_is_finished(&b->begun)) {
        status = build_was_finished(b, &to);
    } else {
        if (status == REPLAY_DONE) status = build_all(b, &to);
        if (status == REPLAY_DONE) status = build_report(b);
    }
    free(b->cut.shards);
    free(b);
    return status;
}
