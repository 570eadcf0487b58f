/* rebuild, restore: a data directory that jumund starts from, made from a log. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/cli/text.h"
#include "clients/replay/cut.h"
#include "clients/replay/writer.h"

struct build {
    struct replay *replay;
    const char *target;
    struct cut cut;
    int64_t time_ms[SHARDS_MAX]; /* of the last entry that stays */
    uint64_t orders[SHARDS_MAX], events[SHARDS_MAX];
};

/* What the marker needs and only the records tell. */
struct build_tail {
    uint64_t term, configuration_index;
    uint8_t *configuration;
    uint32_t configuration_bytes;
};

static bool tail_take(struct build_tail *t, const struct log_item *item) {
    t->term = item->header->term;
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

/* What its peers have not seen yet is sent again: from which record on. */
static void build_unseen(const struct build *b, uint32_t i, const struct fold *f,
                         uint64_t acknowledged[SHARDS_MAX], uint64_t oldest[SHARDS_MAX]) {
    const struct source *source = &b->replay->source;
    uint32_t me = source->shards[i].number;
    for (uint32_t j = 0; j < b->cut.count; j++) {
        uint32_t peer = source->shards[j].number;
        const struct message_track *sent = &f->sent[peer];
        acknowledged[peer] = b->cut.shards[j].seen[me];
        if (i == j || sent->last <= acknowledged[peer]) continue;
        uint64_t number = (acknowledged[peer] + 1) / MESSAGE_BLOCK;
        uint64_t block = number > sent->base ? number - sent->base : 0;
        oldest[peer] = block < sent->blocks_count ? sent->blocks[block].first_index : 0;
    }
}

static int build_store(struct build *b, uint32_t i, struct shard_writer *w, struct fold *f,
                       const struct build_tail *tail, char *error, size_t error_bytes) {
    uint64_t acknowledged[SHARDS_MAX] = {0}, oldest[SHARDS_MAX] = {0};
    const struct source *source = &b->replay->source;
    build_unseen(b, i, f, acknowledged, oldest);
    const struct shard_writer_marker marker = {
        .index = b->cut.shards[i].index, .term = tail->term,
        .configuration_index = tail->configuration_index, .configuration = tail->configuration,
        .configuration_bytes = tail->configuration_bytes, .acknowledged = acknowledged,
        .oldest_unacknowledged = oldest,
        .shards_count = source->shards_told ? source->shards_told : source->count};
    if (!shard_writer_sync(w, error, error_bytes)) return REPLAY_FAILED;
    shard_writer_vote(w, tail->term + 1);
    return shard_writer_store(w, f, &marker, error, error_bytes) ? REPLAY_DONE : REPLAY_FAILED;
}

static void build_fault(void *arg, const struct fold_fault *fault) {
    const struct build *b = arg;
    replay_error(b->replay, "shard %u, record %" PRIu64 ": %s: %s", fault->shard, fault->index,
                 fold_fault_name(fault->kind), fault->what);
}

static int build_shard(struct replay_work *work, uint32_t i) {
    struct build *b = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    struct build_tail tail = {0};
    char path[SOURCE_PATH_BYTES + 16], error[1200] = "";
    int status;
    struct fold_options options = replay_fold_options(work->replay, shard);
    options.fault = build_fault;
    options.arg = b;
    struct fold *f =
        replay_fold_begin(work->replay, shard, &options, b->cut.shards[i].index, &status);
    snprintf(path, sizeof path, "%.900s/shard-%u", b->target, shard->number);
    struct shard_writer *w =
        status == REPLAY_DONE ? shard_writer_open(path, shard->number, error, sizeof error) : NULL;
    if (status == REPLAY_DONE && !w) status = REPLAY_FAILED;
    if (status == REPLAY_DONE) status = build_copy(work, b, i, w, f, &tail);
    if (status == REPLAY_DONE && f->faults > 0) {
        snprintf(error, sizeof error, "the log has %" PRIu64 " faults; nothing is built from it",
                 f->faults);
        status = REPLAY_FOUND;
    }
    if (status == REPLAY_DONE) status = build_store(b, i, w, f, &tail, error, sizeof error);
    if (status != REPLAY_DONE && error[0]) {
        replay_error(work->replay, "shard %u: %s", shard->number, error);
    }
    if (f) {
        b->orders[i] = fold_table_count(f->orders);
        b->events[i] = f->events;
        b->time_ms[i] = f->time_ms;
    }
    shard_writer_close(w);
    fold_close(f);
    free(tail.configuration);
    return status;
}

static int build_report(struct build *b) {
    struct replay *r = b->replay;
    json_t *shards = json_array();
    char count[TEXT_BYTES], events[TEXT_BYTES], time[TEXT_BYTES];
    for (uint32_t i = 0; i < b->cut.count; i++) {
        const struct source_shard *s = &r->source.shards[i];
        json_array_append_new(shards, json_pack("{s:i, s:I, s:I, s:I, s:I}", "shard",
                              (int)s->number, "index", (json_int_t)b->cut.shards[i].index,
                              "time_ms", (json_int_t)b->time_ms[i], "events",
                              (json_int_t)b->events[i], "orders", (json_int_t)b->orders[i]));
        if (!r->json && !r->quiet) {
            printf("shard %u: up to record %" PRIu64 " (%s), %s events, %s orders\n", s->number,
                   b->cut.shards[i].index, text_time(time, b->time_ms[i]),
                   text_count(events, b->events[i]), text_count(count, b->orders[i]));
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

/* The base that a log without its beginning goes on from must not be newer than the cut. */
static void build_choose_base(struct source_shard *shard, uint64_t cut) {
    unsigned long long index;
    const char *name = strrchr(shard->base, '/');
    if (!name || sscanf(name, "/base-%20llu", &index) != 1 || index <= cut) return;
    source_base_before(shard, cut);
}

static int build_all(struct build *b, const struct moment *to) {
    struct replay *r = b->replay;
    char error[1200];
    uint64_t first, total = 0;
    b->cut.count = r->source.count;
    b->cut.shards = calloc(r->source.count, sizeof *b->cut.shards);
    if (!b->cut.shards) return REPLAY_FAILED;
    for (uint32_t i = 0; i < r->source.count; i++) {
        uint64_t last;
        log_source_range(r->source.shards[i].log, &first, &last);
        uint64_t wanted = moment_index(to, &r->source.shards[i], last);
        b->cut.shards[i].index = wanted < last ? wanted : last;
    }
    int status = cut_settle(r, &b->cut);
    for (uint32_t i = 0; status == REPLAY_DONE && i < r->source.count; i++) {
        log_source_range(r->source.shards[i].log, &first, &(uint64_t){0});
        if (b->cut.shards[i].index < first || b->cut.shards[i].index == 0) {
            replay_error(r, "shard %u: its log begins later than that", r->source.shards[i].number);
            status = REPLAY_NOT_THERE;
        }
        build_choose_base(&r->source.shards[i], b->cut.shards[i].index);
        total += b->cut.shards[i].index;
    }
    if (status == REPLAY_DONE && !writer_directory(b->target, true, error, sizeof error)) {
        replay_error(r, "%s", error);
        status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) {
        status = replay_run(r, r->source.count, "building", "records", total, build_shard, b);
    }
    /* Last: a directory without node.json is not whole, and says so. */
    uint32_t shards = r->source.shards_told ? r->source.shards_told : r->source.count;
    if (status == REPLAY_DONE &&
        !writer_identity(b->target, "node.json", r->source.cluster_id, r->source.node_id, shards,
                         r->source.created_ms ? r->source.created_ms : text_now_ms(), NULL, error,
                         sizeof error)) {
        replay_error(r, "%s", error);
        status = REPLAY_FAILED;
    }
    return status;
}

int replay_build(struct replay *r) {
    struct build *b = calloc(1, sizeof *b);
    struct moment to;
    int64_t node_id = 0;
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
        b->target = replay_word(r, 1);
        if (node_id) r->source.node_id = (uint64_t)node_id;
        if (r->source.shards_told && r->source.count != r->source.shards_told) {
            bool grown = r->source.count > r->source.shards_told;
            replay_error(r, grown ? "%s has %u shards of a cluster that began with %u: a node "
                                    "alone knows no growth, so no directory of one is made of it"
                                  : "%s has %u of %u shards: a directory needs all of them",
                         r->source.path, r->source.count, r->source.shards_told);
            status = REPLAY_FAILED;
        }
    }
    if (status == REPLAY_DONE) status = build_all(b, &to);
    if (status == REPLAY_DONE) status = build_report(b);
    free(b->cut.shards);
    free(b);
    return status;
}
