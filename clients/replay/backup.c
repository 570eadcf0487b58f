/* backup: an archive of all logs, taken beside a running node, that grows with each run. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/cli/text.h"
#include "clients/replay/backup.h"
#include "clients/replay/cut.h"
#include "clients/replay/writer.h"

/* A stored state, copied to base-<the record that it is exact at>; only then may the log's end be
 * looked at. */
static int backup_base(struct backup *b, const struct source_shard *shard) {
    char from[SOURCE_PATH_BYTES + 16], beside[1200], path[1300], error[1200];
    struct state_source_marker marker;
    uint64_t exact = 0;
    struct fold_options options = {.shard = shard->number, .memory_bytes_max = 16u << 20,
                                   .scratch = b->replay->scratch};
    snprintf(from, sizeof from, "%s", shard->state);
    snprintf(beside, sizeof beside, "%.900s/shard-%u/base.new", b->target, shard->number);
    if (!shard->state[0]) {
        replay_error(b->replay, "shard %u: its log does not reach back to record 1, and no state "
                     "is stored", shard->number);
        return REPLAY_FAILED;
    }
    snprintf(path, sizeof path, "%s/data.mdb", beside);
    unlink(path);
    if (!writer_directory(beside, false, error, sizeof error) ||
        state_source_copy(from, beside, error, sizeof error) != 0) {
        replay_error(b->replay, "shard %u: %s", shard->number, error);
        return REPLAY_FAILED;
    }
    /* Read back at once: a base that cannot be folded from is none. */
    struct state_source *state = state_source_open(beside, error, sizeof error);
    struct fold *f = state ? fold_open(&options) : NULL;
    bool ok = f && fold_begin_with(f, state, &marker, &exact, error, sizeof error) == 0;
    state_source_close(state);
    fold_close(f);
    snprintf(path, sizeof path, "%.900s/shard-%u/base-%020" PRIu64, b->target, shard->number,
             exact);
    if (ok && access(path, F_OK) == 0) { /* nothing has happened since, but it may need less log */
        strncat(beside, "/data.mdb", sizeof beside - strlen(beside) - 1);
        strncat(path, "/data.mdb", sizeof path - strlen(path) - 1);
    }
    if (ok && rename(beside, path) == 0) return REPLAY_DONE;
    replay_error(b->replay, "shard %u: the copy of its state: %s", shard->number,
                 ok ? strerror(errno) : error);
    return REPLAY_FAILED;
}

/* One that a log which begins with record `begin` goes on from. One that an earlier run has left,
 * and that retention has passed since, is none. */
static bool backup_has_base(const struct backup *b, uint32_t number, uint64_t begin) {
    struct source_shard archive = {.number = number};
    snprintf(archive.directory, sizeof archive.directory, "%.900s/shard-%u", b->target, number);
    source_base_before(&archive, UINT64_MAX);
    if (!archive.base[0]) return false;
    snprintf(archive.state, sizeof archive.state, "%.960s", archive.base);
    return source_stored(&archive) + 1 >= begin;
}

uint64_t backup_archived(const struct backup *b, uint32_t i, uint64_t *begin) {
    char path[1100], error[1200];
    uint64_t last = 0;
    *begin = 0;
    snprintf(path, sizeof path, "%.900s/shard-%u", b->target, b->replay->source.shards[i].number);
    struct log_source *archive = log_source_open(path, error, sizeof error);
    if (archive) log_source_range(archive, begin, &last);
    log_source_close(archive);
    return last;
}

/* Does the archive end with a record of this very log? */
static bool backup_joins(struct backup *b, const struct source_shard *shard,
                         const char *directory, uint64_t last, char *error, size_t error_bytes) {
    struct log_item mine, theirs;
    uint64_t first, newest;
    log_source_range(shard->log, &first, &newest);
    if (last == 0) return true;
    if (first > last + 1) {
        snprintf(error, error_bytes, "the archive ends with record %" PRIu64 ", the log begins "
                 "with %" PRIu64 ": retention has passed it; begin a new backup", last, first);
        return false;
    }
    if (newest < last) {
        snprintf(error, error_bytes, "the archive holds record %" PRIu64 ", the log ends with %"
                 PRIu64 ": it is not the log that was backed up", last, newest);
        return false;
    }
    if (first > last) return true;
    struct log_source *archive = log_source_open(directory, error, error_bytes);
    struct log_cursor *x = log_cursor_open(shard->log, last, last, true);
    struct log_cursor *y = archive ? log_cursor_open(archive, last, last, true) : NULL;
    bool same = x && y && log_cursor_next(x, &mine) == LOG_RECORD &&
                log_cursor_next(y, &theirs) == LOG_RECORD &&
                mine.header->checksum == theirs.header->checksum;
    log_cursor_close(x);
    log_cursor_close(y);
    log_source_close(archive);
    if (archive && !same) {
        snprintf(error, error_bytes, "record %" PRIu64 " differs from the archive's: it is not the "
                 "log that was backed up", last);
    }
    return same;
}

/* What the stored state covers is in the log, and what the archive has, too: else the log has lost
 * its end, and the others would be cut to what is left of it. To be asked before anything is
 * written. */
static bool backup_is_whole(struct backup *b, uint32_t i) {
    struct replay *r = b->replay;
    const struct source_shard *shard = &r->source.shards[i];
    const struct log_source_segment *list;
    char directory[1100], error[1200] = "";
    uint64_t first, last, begin, archived = backup_archived(b, i, &begin);
    b->stored[i] = source_stored(shard);
    /* Behind the state: what is stored is in the log by then. */
    if (log_source_refresh(shard->log, error, sizeof error) != 0) {
        replay_error(r, "shard %u: %s", shard->number, error);
        return false;
    }
    log_source_range(shard->log, &first, &last);
    uint32_t count = log_source_segments(shard->log, &list);
    for (uint32_t n = 0; n < count; n++) {
        if (!list[n].fault || list[n].unborn || list[n].last <= archived) continue;
        replay_error(r, "shard %u: %s: %s", shard->number, list[n].name, list[n].what);
        return false;
    }
    if (b->stored[i] > last) {
        replay_error(r, "shard %u: the state reflects record %" PRIu64 ", but the log ends with %"
                     PRIu64 ": the log has lost records", shard->number, b->stored[i], last);
        return false;
    }
    snprintf(directory, sizeof directory, "%.900s/shard-%u", b->target, shard->number);
    if (backup_joins(b, shard, directory, archived, error, sizeof error)) return true;
    replay_error(r, "shard %u: %s", shard->number, error);
    return false;
}

static int backup_copy(struct replay_work *work, struct backup *b, uint32_t i,
                       struct shard_writer *w) {
    const struct source_shard *shard = &work->replay->source.shards[i];
    uint64_t first, last, steps = 0, from = shard_writer_last(w) + 1;
    struct log_item item;
    enum log_step step;
    log_source_range(shard->log, &first, &last);
    if (from < first) from = first;
    struct log_cursor *c = log_cursor_open(shard->log, from, b->upto[i], true);
    int status = c ? REPLAY_DONE : REPLAY_FAILED;
    while (c && status == REPLAY_DONE && (step = log_cursor_next(c, &item)) != LOG_END) {
        if (step != LOG_RECORD) {
            replay_error(work->replay, "shard %u: record %" PRIu64 " (%s, offset %" PRIu64 "): %s",
                         shard->number, item.index, item.segment, item.offset, item.what);
            status = REPLAY_FAILED;
        } else if (!shard_writer_append(w, item.header, item.payload)) {
            replay_error(work->replay, "shard %u: no memory, or no room on the disk",
                         shard->number);
            status = REPLAY_FAILED;
        } else {
            b->added[i]++;
            b->bytes[i] += sizeof *item.header + item.header->payload_bytes;
        }
        if (++steps % 256 == 0 && !replay_progress(work, 256)) status = REPLAY_STOPPED;
    }
    log_cursor_close(c);
    return status;
}

static int backup_shard(struct replay_work *work, uint32_t i) {
    struct backup *b = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    char directory[1100], error[1200] = "";
    snprintf(directory, sizeof directory, "%.900s/shard-%u", b->target, shard->number);
    struct shard_writer *w = shard_writer_open(directory, shard->number, error, sizeof error);
    int status = w ? REPLAY_DONE : REPLAY_FAILED;
    if (w && !backup_joins(b, shard, directory, shard_writer_last(w), error, sizeof error)) {
        status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) status = backup_copy(work, b, i, w);
    if (status == REPLAY_DONE && !shard_writer_sync(w, error, sizeof error)) {
        status = REPLAY_FAILED;
    }
    if (status != REPLAY_DONE && error[0]) {
        replay_error(work->replay, "shard %u: %s", shard->number, error);
    }
    shard_writer_close(w);
    return status;
}

/* Numbers of the shards that are in the archive: also of those that an earlier run found and this
 * one did not, as the node of a cluster has let them go. */
static json_t *backup_holds(const struct backup *b) {
    struct source archive;
    json_t *holds = json_array();
    if (source_open(&archive, b->target, -1, NULL, 0) != 0) return holds;
    for (uint32_t i = 0; i < archive.count; i++) {
        json_array_append_new(holds, json_integer(archive.shards[i].number));
    }
    source_close(&archive);
    return holds;
}

/* backup.json: whose it is, what it holds, and what each run brought. */
static int backup_tell(struct backup *b, int64_t began_ms) {
    struct replay *r = b->replay;
    char path[1100], error[1200];
    json_error_t fault;
    snprintf(path, sizeof path, "%.1000s/backup.json", b->target);
    json_t *before = access(path, F_OK) == 0 ? json_load_file(path, 0, &fault) : NULL;
    json_t *runs = json_object_get(before, "runs");
    runs = runs ? json_incref(runs) : json_array();
    json_t *shards = json_array();
    for (uint32_t i = 0; i < r->source.count; i++) {
        json_array_append_new(shards, json_pack("{s:i, s:I, s:I, s:I}", "shard",
                              (int)r->source.shards[i].number, "index", (json_int_t)b->upto[i],
                              "records", (json_int_t)b->added[i], "bytes",
                              (json_int_t)b->bytes[i]));
    }
    json_t *run = json_pack("{s:I, s:I, s:b, s:o}", "began_ms", (json_int_t)began_ms, "ended_ms",
                            (json_int_t)text_now_ms(), "settled", (int)b->settled, "shards",
                            shards);
    json_array_append(runs, run);
    const struct writer_identity identity = {
        .cluster_id = r->source.cluster_id, .node_id = r->source.node_id,
        .shards = r->source.shards_told, .created_ms = r->source.created_ms,
        .epochs = r->source.epochs, .epochs_count = r->source.epochs_count,
        .stores_shards = r->source.stores_shards, .generation = r->source.generation,
        .ancestors = r->source.ancestors, .ancestors_count = r->source.ancestors_count,
        .runs = runs, .holds = backup_holds(b)};
    bool ok = writer_identity(b->target, "backup.json", &identity, error, sizeof error);
    if (!ok) replay_error(r, "%s", error);
    else if (r->json) replay_print_json(json_incref(run), REPLAY_DONE);
    json_decref(run);
    json_decref(identity.holds);
    json_decref(runs);
    json_decref(before);
    return ok ? REPLAY_DONE : REPLAY_FAILED;
}

/* Is it a backup of this node, or empty? */
static int backup_target(struct backup *b) {
    struct replay *r = b->replay;
    struct source archive = {.count = 0};
    char path[1100], error[1200];
    snprintf(path, sizeof path, "%.1000s/backup.json", b->target);
    bool known = access(path, F_OK) == 0;
    if (!writer_directory(b->target, !known, error, sizeof error)) {
        /* A first run that was stopped left shards and no backup.json: it goes on. */
        if (strstr(error, "is not empty") == NULL || known) {
            replay_error(r, "%s", error);
            return REPLAY_FAILED;
        }
        snprintf(path, sizeof path, "%.1000s/node.json", b->target);
        if (access(path, F_OK) == 0) {
            replay_error(r, "%s is the data directory of a node", b->target);
            return REPLAY_FAILED;
        }
    }
    if (!known) return REPLAY_DONE;
    if (source_open(&archive, b->target, -1, error, sizeof error) != 0) {
        replay_error(r, "%s", error);
        return REPLAY_FAILED;
    }
    bool same = strcmp(archive.cluster_id, r->source.cluster_id) == 0 &&
                archive.shards_told == r->source.shards_told;
    source_close(&archive);
    if (same) return REPLAY_DONE;
    replay_error(r, "%s is a backup of another cluster (or of another number of shards)",
                 b->target);
    return REPLAY_FAILED;
}

/* The ends were looked at one after another, while messages were on their way: they are lowered
 * until no shard's archive has seen what the archive of another one does not hold as sent. */
int backup_settle(struct backup *b) {
    struct replay *r = b->replay;
    struct cut cut = {.count = r->source.count, .growing = true,
                      .shards = calloc(r->source.count, sizeof *cut.shards)};
    char error[1200];
    uint64_t begin;
    int status = cut.shards ? REPLAY_DONE : REPLAY_FAILED;
    for (uint32_t i = 0; status == REPLAY_DONE && i < cut.count; i++) {
        cut.shards[i].index = b->upto[i];
        cut.shards[i].after = backup_archived(b, i, &begin);
        /* Up to now: what was seen up to the ends had been sent by now. */
        if (log_source_refresh(r->source.shards[i].log, error, sizeof error) != 0) {
            replay_error(r, "%s", error);
            status = REPLAY_FAILED;
        }
    }
    if (status == REPLAY_DONE) status = cut_settle(r, &cut);
    /* What a state reflects had been sent to it by then: no cut is before it, unless the log of one
     * that sent has lost its end. (Of a cluster's node others have the rest.) */
    bool alone = !r->source.clustered && !r->source.in_cluster && r->source.generation == 0;
    for (uint32_t i = 0; status == REPLAY_DONE && i < cut.count; i++) {
        b->upto[i] = cut.shards[i].index;
        if (!alone || b->upto[i] >= b->stored[i]) continue;
        replay_error(r, "shard %u: its stored state reflects record %" PRIu64 ", but the logs of "
                     "the other shards fit it only up to record %" PRIu64 ": one of them has lost "
                     "records (verify tells which)", r->source.shards[i].number, b->stored[i],
                     b->upto[i]);
        status = REPLAY_FAILED;
    }
    free(cut.shards);
    return status;
}

/* An archive that reaches back to record 1 needs no stored state at all. */
static bool backup_lacks_base(const struct backup *b, uint32_t i) {
    const struct source_shard *shard = &b->replay->source.shards[i];
    uint64_t begin, last;
    if (!replay_log_is_cut(shard)) return false;
    if (backup_archived(b, i, &begin) == 0) log_source_range(shard->log, &begin, &last);
    return begin > 1 && !backup_has_base(b, shard->number, begin);
}

/* Up to where it is copied: as the node tells, else what is known to be committed without it. */
static int backup_ends(struct backup *b) {
    struct replay *r = b->replay;
    char error[1200];
    uint64_t first, begin;
    int status = b->now.url[0] ? backup_now_ends(b) : BACKUP_NOW_NOBODY;
    if (status != BACKUP_NOW_NOBODY) return status;
    for (uint32_t i = 0; i < r->source.count; i++) {
        if (log_source_refresh(r->source.shards[i].log, error, sizeof error) != 0) {
            replay_error(r, "%s", error);
            return REPLAY_FAILED;
        }
        log_source_range(r->source.shards[i].log, &first, &b->upto[i]);
        b->upto[i] = source_committed(&r->source.shards[i], b->upto[i]);
        uint64_t archived = backup_archived(b, i, &begin);
        if (b->upto[i] < archived) b->upto[i] = archived;
    }
    return r->source.count > 1 ? backup_settle(b) : REPLAY_DONE;
}

static int backup_all(struct backup *b) {
    struct replay *r = b->replay;
    char path[1100], error[1200];
    uint64_t total = 0;
    int64_t began_ms = text_now_ms();
    int status = backup_target(b);
    for (uint32_t i = 0; status == REPLAY_DONE && i < r->source.count; i++) {
        if (!backup_is_whole(b, i)) status = REPLAY_FAILED;
    }
    for (uint32_t i = 0; status == REPLAY_DONE && i < r->source.count; i++) {
        const struct source_shard *shard = &r->source.shards[i];
        snprintf(path, sizeof path, "%.900s/shard-%u", b->target, shard->number);
        if (!writer_directory(path, false, error, sizeof error)) {
            replay_error(r, "%s", error);
            return REPLAY_FAILED;
        }
        if (backup_lacks_base(b, i) || b->bases) status = backup_base(b, shard);
    }
    /* All ends are looked at behind all stored states: what a state has seen was sent by then. */
    if (status == REPLAY_DONE) status = backup_ends(b);
    /* Retention goes on meanwhile. */
    for (uint32_t i = 0; status == REPLAY_DONE && i < r->source.count; i++) {
        if (!backup_lacks_base(b, i)) continue;
        replay_error(r, "shard %u: the beginning of its log was dropped meanwhile: begin again",
                     r->source.shards[i].number);
        status = REPLAY_FAILED;
    }
    if (status != REPLAY_DONE) return status;
    for (uint32_t i = 0; i < r->source.count; i++) total += b->upto[i];
    status = replay_run(r, r->source.count, "backing up", "records", total, backup_shard, b);
    return status == REPLAY_DONE ? backup_tell(b, began_ms) : status;
}

int replay_backup(struct replay *r) {
    struct backup *b = calloc(1, sizeof *b);
    char records[TEXT_BYTES], bytes[TEXT_BYTES];
    uint64_t added = 0, size = 0;
    if (!b) return REPLAY_FAILED;
    int status = replay_open_source(r);
    b->replay = r;
    b->target = replay_word(r, 1);
    b->bases = args_flag(&r->args, "base");
    if (status == REPLAY_DONE && r->source.kind != SOURCE_DATA) {
        replay_error(r, r->source.kind == SOURCE_FEED
                            ? "a backup is made on the node's machine, of its directory: not of %s"
                            : "%s is not the data directory of a node", r->source.path);
        status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) status = backup_now_begin(b);
    if (status == REPLAY_DONE) status = backup_all(b);
    for (uint32_t i = 0; i < r->source.count; i++) {
        added += b->added[i];
        size += b->bytes[i];
    }
    if (status == REPLAY_DONE && !r->json && !r->quiet) {
        printf("%s record%s, %s added to %s\n", text_count(records, added), text_plural(added),
               text_size(bytes, size), b->target);
    }
    free(b);
    return status;
}
