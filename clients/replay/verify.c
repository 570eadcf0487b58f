/* verify, hash: is the log whole and does everything that was made from it agree with it? */
#include "clients/replay/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "clients/cli/table.h"
#include "clients/cli/text.h"

enum { VERIFY_FAULTS_SHOWN = 20 };

/* -- telling ------------------------------------------------------------------------------ */

static json_t *fault_json(const struct fold_fault *f) {
    char key[27];
    json_t *json = json_pack("{s:s, s:i, s:s, s:s}", "kind", fold_fault_name(f->kind), "shard",
                             (int)f->shard, "segment", f->segment, "what", f->what);
    if (f->index) json_object_set_new(json, "index", json_integer((json_int_t)f->index));
    if (f->upto > f->index) json_object_set_new(json, "upto", json_integer((json_int_t)f->upto));
    if (f->offset) json_object_set_new(json, "offset", json_integer((json_int_t)f->offset));
    if (f->version) json_object_set_new(json, "version", json_integer(f->version));
    if (!id128_is_zero(&f->subject)) {
        json_object_set_new(json, "subject", json_string(replay_key_text(&f->subject, key)));
    }
    return json;
}

static void fault_print(const struct replay *r, const struct fold_fault *f) {
    char key[27], clean[512];
    printf("%s%s%s  shard %u", REPLAY_STYLE(r, "31"), fold_fault_name(f->kind), REPLAY_PLAIN(r),
           f->shard);
    if (f->segment && *f->segment) printf("  %s", f->segment);
    if (f->index && f->upto > f->index) printf("  records %" PRIu64 "-%" PRIu64, f->index, f->upto);
    else if (f->index) printf("  record %" PRIu64, f->index);
    if (f->offset) printf("  offset %" PRIu64, f->offset);
    if (!id128_is_zero(&f->subject)) printf("  %s", replay_key_text(&f->subject, key));
    printf(": %s\n", text_printable(clean, sizeof clean, f->what, strlen(f->what)));
}

/* NULL without memory. */
static struct verify_count *verify_count_of(struct verify *v, uint32_t kind, uint32_t shard) {
    for (uint32_t i = 0; i < v->counts_count; i++) {
        if (v->counts[i].kind == kind && v->counts[i].shard == shard) return &v->counts[i];
    }
    if (v->counts_count == v->counts_capacity) {
        uint32_t capacity = v->counts_capacity ? 2 * v->counts_capacity : 32;
        struct verify_count *counts = realloc(v->counts, capacity * sizeof *counts);
        if (!counts) return NULL;
        v->counts = counts;
        v->counts_capacity = capacity;
    }
    v->counts[v->counts_count] = (struct verify_count){.kind = kind, .shard = shard};
    return &v->counts[v->counts_count++];
}

/* One cause may have a hundred thousand faults of a kind: the first ones tell of it. */
void verify_tell(struct verify *v, const struct fold_fault *fault) {
    pthread_mutex_lock(&v->lock);
    struct verify_count *c = verify_count_of(v, fault->kind, fault->shard);
    v->faults++;
    if (c) c->faults++;
    if (!c || (int64_t)c->shown < v->faults_shown_max) {
        if (c) c->shown++;
        if (v->json) json_array_append_new(v->json, fault_json(fault));
        else fault_print(v->replay, fault);
    }
    pthread_mutex_unlock(&v->lock);
}

static void verify_note_lost(struct verify_shard *s, uint64_t from, uint64_t upto) {
    struct verify_lost *last = s->lost_count ? &s->lost[s->lost_count - 1] : NULL;
    if (last && (from <= last->upto + 1 || s->lost_count == VERIFY_LOST_MAX)) {
        if (upto > last->upto) last->upto = upto;
        return;
    }
    s->lost[s->lost_count++] = (struct verify_lost){from, upto};
}

bool verify_has_lost(const struct verify_shard *s, uint64_t index) {
    for (uint32_t i = 0; i < s->lost_count; i++) {
        if (index >= s->lost[i].from && index <= s->lost[i].upto) return true;
    }
    return false;
}

static void verify_fold_fault(void *arg, const struct fold_fault *fault) {
    struct verify_shard *s = arg;
    if (fault->kind == LOG_FAULT_MISSING || fault->kind == LOG_FAULT_SEGMENT ||
        fault->kind == LOG_FAULT_DAMAGED) {
        verify_note_lost(s, fault->index, fault->upto);
    }
    verify_tell(s->verify, fault);
}

/* Files that are shorter than they were, or cannot be opened: what that lost, the records that are
 * missing tell. What may as well be a crash's trace counts where the state knows more. */
void verify_segments(struct verify_shard *s, bool state_knows_more) {
    const struct log_source_segment *list;
    uint32_t count = log_source_segments(s->source->log, &list);
    for (uint32_t i = 0; i < count; i++) {
        const struct log_source_segment *g = &list[i];
        if (!g->fault || g->unborn != state_knows_more) continue;
        if (!g->unborn && g->fault == LOG_FAULT_SEGMENT) continue; /* its records' fault tells */
        struct fold_fault fault = {.kind = g->fault, .shard = s->source->number,
                                   .segment = g->name};
        snprintf(fault.what, sizeof fault.what, "%.120s", g->what);
        verify_tell(s->verify, &fault);
    }
}

void verify_tell_state(struct verify_shard *s, uint32_t kind, const struct id128 *key,
                       uint32_t version, const char *table, uint64_t offset, const char *format,
                       ...) {
    struct fold_fault fault = {.kind = kind, .shard = s->source->number, .version = version,
                               .offset = offset};
    char segment[32];
    snprintf(segment, sizeof segment, "state/%s", table);
    fault.segment = segment;
    if (key) fault.subject = *key;
    va_list args;
    va_start(args, format);
    vsnprintf(fault.what, sizeof fault.what, format, args);
    va_end(args);
    verify_tell(s->verify, &fault);
}

/* -- one shard ---------------------------------------------------------------------------- */

static int verify_shard(struct replay_work *work, uint32_t i) {
    struct verify *v = work->arg;
    struct verify_shard *s = &v->shards[i];
    struct fold_options options = replay_fold_options(v->replay, s->source);
    options.fault = verify_fold_fault;
    options.arg = s;
    s->fold = fold_open(&options);
    if (!s->fold) {
        replay_error(v->replay, "shard %u: no memory", s->source->number);
        return REPLAY_FAILED;
    }
    int status = REPLAY_DONE;
    if (s->cursors.found && s->cursors.stores_index <= s->upto) {
        status = replay_fold(work, s->source, s->fold, s->cursors.stores_index);
        if (status == REPLAY_DONE) verify_state_exact(s);
    }
    if (status == REPLAY_DONE) status = replay_fold(work, s->source, s->fold, s->upto);
    if (status == REPLAY_DONE && s->state) verify_state_orders(s);
    if (status == REPLAY_DONE && v->with_hash) s->hash = fold_hash(s->fold);
    return status;
}

/* The state first, then the end of the log: what is stored is in the log. */
static int verify_begin(struct verify *v, const struct moment *at) {
    struct replay *r = v->replay;
    char error[1200];
    v->shards = calloc(r->source.count, sizeof *v->shards);
    v->count = v->shards ? r->source.count : 0;
    for (uint32_t i = 0; i < v->count; i++) {
        struct verify_shard *s = &v->shards[i];
        s->verify = v;
        s->source = &r->source.shards[i];
        /* The cluster document's state is not looked at. */
        if (v->with_state && s->source->number != SHARD_META) verify_state_capture(s);
    }
    for (uint32_t i = 0; i < v->count; i++) {
        struct verify_shard *s = &v->shards[i];
        uint64_t first;
        if (log_source_refresh(s->source->log, error, sizeof error) != 0) {
            replay_error(r, "%s", error);
            return REPLAY_FAILED;
        }
        log_source_range(s->source->log, &first, &s->upto);
        uint64_t committed = source_committed(s->source, s->upto);
        if (s->cursors.stores_index > committed) committed = s->cursors.stores_index;
        if (committed < s->upto) s->upto = committed;
        uint64_t wanted = moment_index(at, s->source, s->upto);
        if (wanted < s->upto) s->upto = wanted;
        verify_segments(s, false);
    }
    return v->count ? REPLAY_DONE : REPLAY_FAILED;
}

/* A node that stands alone has all shards that it began with, a backup those of its backup.json. */
static void verify_shards_there(struct verify *v) {
    struct source *s = &v->replay->source;
    if (args_value(&v->replay->args, "shard")) return;
    for (int64_t n = -1; (n = source_lost_shard(s, (uint32_t)(n + 1))) >= 0;) {
        struct fold_fault fault = {.kind = LOG_FAULT_SEGMENT, .shard = (uint32_t)n, .segment = ""};
        snprintf(fault.what, sizeof fault.what, "%.180s has no log of shard %d", s->path, (int)n);
        verify_tell(v, &fault);
    }
    for (uint32_t i = 0; s->kind == SOURCE_BACKUP && i < s->count; i++) {
        struct fold_fault fault = {.kind = LOG_FAULT_MISSING, .shard = s->shards[i].number,
                                   .segment = ""};
        const struct log_source_segment *list;
        uint64_t first, last, told = s->holds_upto[fault.shard];
        log_source_range(s->shards[i].log, &first, &last);
        if (last >= told || log_source_segments(s->shards[i].log, &list) == 0) continue;
        snprintf(fault.what, sizeof fault.what, "backup.json tells of records up to %" PRIu64
                 ", the log ends with %" PRIu64, told, last);
        fault.index = last + 1;
        fault.upto = told;
        verify_tell(v, &fault);
    }
}

static void verify_end(struct verify *v) {
    for (uint32_t i = 0; i < v->count; i++) {
        verify_state_free(&v->shards[i]);
        fold_close(v->shards[i].fold);
    }
    free(v->counts);
    free(v->shards);
    pthread_mutex_destroy(&v->lock);
}

static uint64_t verify_records(const struct verify *v) {
    uint64_t total = 0, first, last;
    for (uint32_t i = 0; i < v->count; i++) {
        log_source_range(v->shards[i].source->log, &first, &last);
        if (v->shards[i].upto >= first) total += v->shards[i].upto - first + 1;
    }
    return total;
}

static const char *hash_text(const struct fold_hash *h, char text[33]) {
    snprintf(text, 33, "%016" PRIx64 "%016" PRIx64, h->high, h->low);
    return text;
}

/* -- against another ---------------------------------------------------------------------- */

/* The first record in which two logs differ; 0 = none up to `upto`. */
static uint64_t logs_differ(const struct source_shard *a, const struct source_shard *b,
                            uint64_t upto) {
    uint64_t first_a, first_b, last, found = 0;
    struct log_item one, other;
    log_source_range(a->log, &first_a, &last);
    log_source_range(b->log, &first_b, &last);
    uint64_t from = first_a > first_b ? first_a : first_b;
    struct log_cursor *x = log_cursor_open(a->log, from, upto, false);
    struct log_cursor *y = log_cursor_open(b->log, from, upto, false);
    while (x && y && found == 0) {
        enum log_step step = log_cursor_next(x, &one), step_b = log_cursor_next(y, &other);
        if (step == LOG_END && step_b == LOG_END) break;
        if (step != step_b || step != LOG_RECORD || one.index != other.index ||
            one.header->checksum != other.header->checksum) {
            found = step == LOG_END ? other.index : one.index;
        }
    }
    log_cursor_close(x);
    log_cursor_close(y);
    return found;
}

struct verify_other {
    struct verify *verify;
    struct source source;
    json_t *file;              /* made by `hash --json` */
    uint64_t index[SHARDS_MAX];
    struct fold_hash hash[SHARDS_MAX][2];
    bool known[SHARDS_MAX];
};

/* Folds one shard of one side up to an index for its hash. */
static int hash_shard(struct replay_work *work, const struct source_shard *shard, uint64_t upto,
                      struct fold_hash *hash) {
    struct fold_options options = replay_fold_options(work->replay, shard);
    int status;
    struct fold *f = replay_fold_begin(work->replay, shard, &options, upto, &status);
    if (status == REPLAY_DONE) status = replay_fold(work, shard, f, upto);
    if (status == REPLAY_DONE) *hash = fold_hash(f);
    fold_close(f);
    return status;
}

static int against_shard(struct replay_work *work, uint32_t i) {
    struct verify_other *o = work->arg;
    const struct source_shard *mine = &work->replay->source.shards[i / 2];
    if (!o->known[i / 2]) return REPLAY_DONE;
    if (i % 2 == 0) return hash_shard(work, mine, o->index[i / 2], &o->hash[i / 2][0]);
    if (o->file) return REPLAY_DONE; /* it is told */
    const struct source_shard *other = source_shard_of(&o->source, mine->number);
    return hash_shard(work, other, o->index[i / 2], &o->hash[i / 2][1]);
}

/* The hashes that a file tells, by shard. */
static void against_read(struct verify_other *o, const struct source *mine) {
    size_t n;
    json_t *one;
    json_array_foreach(json_object_get(o->file, "shards"), n, one) {
        json_int_t shard = -1, index = 0, actors = 0;
        const char *hash = "";
        if (json_unpack(one, "{s:I, s:I, s:s, s?I}", "shard", &shard, "index", &index, "hash",
                        &hash, "actors", &actors) != 0) {
            continue;
        }
        for (uint32_t i = 0; i < mine->count; i++) {
            if (mine->shards[i].number != (uint32_t)shard || strlen(hash) != 32) continue;
            o->index[i] = (uint64_t)index;
            o->hash[i][1].actors = (uint64_t)actors;
            o->known[i] = sscanf(hash, "%16" SCNx64 "%16" SCNx64, &o->hash[i][1].high,
                                 &o->hash[i][1].low) == 2;
        }
    }
}

static bool against_is_file(const char *other) {
    size_t n = strlen(other);
    return n > 5 && strcmp(other + n - 5, ".json") == 0;
}

static int against_open_file(struct verify_other *o, struct replay *r, const char *other) {
    json_error_t fault;
    o->file = json_load_file(other, 0, &fault);
    if (!o->file || !json_is_array(json_object_get(o->file, "shards"))) {
        replay_error(r, "%s: %s", other, o->file ? "not what hash --json writes" : fault.text);
        return REPLAY_FAILED;
    }
    against_read(o, &r->source);
    for (uint32_t i = 0; i < r->source.count; i++) {
        uint64_t first, last;
        log_source_range(r->source.shards[i].log, &first, &last);
        if (!o->known[i] || o->index[i] <= last) continue;
        replay_error(r, "%s tells of record %" PRIu64 ", but shard %u of %s has no record %" PRIu64
                     ": its log ends with %" PRIu64, other, o->index[i], r->source.shards[i].number,
                     r->source.path, o->index[i], last);
        return REPLAY_NOT_THERE;
    }
    return REPLAY_DONE;
}

static int against_open_source(struct replay *r, const char *other, struct source *source) {
    char error[1200];
    if (source_open(source, other, -1, error, sizeof error) != 0) {
        replay_error(r, "%s", error);
        return REPLAY_FAILED;
    }
    int status = replay_other_cluster(r, source) ? REPLAY_OTHER_CLUSTER : REPLAY_DONE;
    if (status == REPLAY_DONE && replay_lacks_shard(r, source)) status = REPLAY_FAILED;
    if (status != REPLAY_DONE) source_close(source);
    return status;
}

/* Before any work: what cannot be compared with, or makes no sense. */
static int against_check(struct replay *r) {
    const char *other;
    int status = REPLAY_DONE;
    for (size_t c = 0; status == REPLAY_DONE && (other = args_next(&r->args, "against", &c));) {
        struct verify_other file = {.file = NULL};
        struct source source;
        if (against_is_file(other)) {
            status = against_open_file(&file, r, other);
            json_decref(file.file);
        } else {
            status = against_open_source(r, other, &source);
            if (status == REPLAY_DONE) source_close(&source);
        }
    }
    return status;
}

static int against_open(struct verify_other *o, struct replay *r, const char *other) {
    if (against_is_file(other)) return against_open_file(o, r, other);
    int status = against_open_source(r, other, &o->source);
    if (status == REPLAY_DONE) status = replay_fetch_states(r, &o->source);
    if (status != REPLAY_DONE) return status;
    for (uint32_t i = 0; i < r->source.count; i++) {
        struct source_shard *b = source_shard_of(&o->source, r->source.shards[i].number);
        uint64_t first, last = 0, mine;
        if (b) log_source_range(b->log, &first, &last);
        log_source_range(r->source.shards[i].log, &first, &mine);
        o->index[i] = last < mine ? last : mine;
        o->known[i] = b != NULL && o->index[i] > 0;
    }
    return REPLAY_DONE;
}

/* A file that tells another cluster's name and nowhere the same state. (Of a rebuilt directory the
 * name alone may be new.) */
static bool against_other_cluster(const struct verify_other *o, const char *other) {
    const struct source *mine = &o->verify->replay->source;
    const char *cluster_id = json_string_value(json_object_get(o->file, "cluster_id"));
    if (!cluster_id || !*cluster_id || !mine->cluster_id[0] ||
        strcmp(cluster_id, mine->cluster_id) == 0) {
        return false;
    }
    for (uint32_t i = 0; i < mine->count; i++) {
        const struct fold_hash *a = &o->hash[i][0], *b = &o->hash[i][1];
        bool empty = a->low == 0 && a->high == 0;
        if (o->known[i] && !empty && a->low == b->low && a->high == b->high) return false;
    }
    replay_error(o->verify->replay, "%s is of another cluster (%.40s) than %s (%s)", other,
                 cluster_id, mine->path, mine->cluster_id);
    return true;
}

static void against_judge(struct verify_other *o, const char *other) {
    struct verify *v = o->verify;
    struct source *mine = &v->replay->source;
    for (uint32_t i = 0; i < mine->count; i++) {
        const struct fold_hash *a = &o->hash[i][0], *b = &o->hash[i][1];
        struct fold_fault fault = {.kind = FOLD_FAULT_HASH, .shard = mine->shards[i].number,
                                   .segment = "", .index = o->index[i], .upto = o->index[i]};
        if (!o->known[i]) {
            snprintf(fault.what, sizeof fault.what, "%.150s does not have this shard", other);
            verify_tell(v, &fault);
            continue;
        }
        if (a->low == b->low && a->high == b->high) continue;
        struct source_shard *theirs =
            o->file ? NULL : source_shard_of(&o->source, mine->shards[i].number);
        uint64_t first = theirs ? logs_differ(&mine->shards[i], theirs, o->index[i]) : 0;
        int n = snprintf(fault.what, sizeof fault.what,
                         "the state at record %" PRIu64 " differs from that of %.120s",
                         o->index[i], other);
        if (first != 0) {
            snprintf(fault.what + n, sizeof fault.what - (size_t)n,
                     "; record %" PRIu64 " is the first one that differs", first);
            fault.index = first;
        }
        verify_tell(v, &fault);
    }
}

/* The state of this source and of `other` at the newest record that both have. */
static int verify_against(struct verify *v, const char *other, json_t *told) {
    struct replay *r = v->replay;
    struct verify_other *o = calloc(1, sizeof *o);
    if (!o) return REPLAY_FAILED;
    o->verify = v;
    int status = against_open(o, r, other);
    uint64_t total = 0;
    for (uint32_t i = 0; i < r->source.count; i++) total += 2 * o->index[i];
    if (status == REPLAY_DONE) {
        status = replay_run(r, 2 * r->source.count, "comparing", "records", total, against_shard,
                            o);
    }
    if (status == REPLAY_DONE && against_other_cluster(o, other)) status = REPLAY_OTHER_CLUSTER;
    if (status == REPLAY_DONE) against_judge(o, other);
    for (uint32_t i = 0; status == REPLAY_DONE && told && i < r->source.count; i++) {
        char text[33];
        json_array_append_new(told, json_pack("{s:s, s:i, s:I, s:s, s:b}", "against", other,
                              "shard", (int)r->source.shards[i].number, "index",
                              (json_int_t)o->index[i], "hash", hash_text(&o->hash[i][0], text),
                              "equal", o->known[i] &&
                                  o->hash[i][0].low == o->hash[i][1].low &&
                                  o->hash[i][0].high == o->hash[i][1].high));
    }
    source_close(&o->source);
    json_decref(o->file);
    free(o);
    return status;
}

/* -- reports ------------------------------------------------------------------------------ */

static json_t *verify_shard_json(const struct verify_shard *s, bool with_hash) {
    uint64_t first, last;
    char hash[33];
    log_source_range(s->source->log, &first, &last);
    json_t *json = json_pack(
        "{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "shard", (int)s->source->number,
        "first", (json_int_t)first, "index", (json_int_t)s->upto, "records",
        (json_int_t)s->fold->entries, "events", (json_int_t)s->fold->events, "bytes",
        (json_int_t)s->fold->bytes, "orders", (json_int_t)fold_table_count(s->fold->orders),
        "stores", (json_int_t)fold_table_count(s->fold->stores), "snapshots",
        (json_int_t)s->snapshots, "snapshots_unjudged", (json_int_t)s->snapshots_unjudged,
        "began_before_log", (json_int_t)s->fold->unknown);
    if (with_hash) {
        json_object_set_new(json, "hash", json_string(hash_text(&s->hash, hash)));
        json_object_set_new(json, "actors", json_integer((json_int_t)s->hash.actors));
    }
    return json;
}

/* At which records others were compared, and found equal. */
static void verify_print_against(const struct replay *r, const json_t *against) {
    size_t i;
    json_t *one;
    json_array_foreach(against, i, one) {
        if (!json_is_true(json_object_get(one, "equal"))) continue; /* a fault tells */
        printf("shard %" JSON_INTEGER_FORMAT " at record %" JSON_INTEGER_FORMAT ": %sthe same "
               "state%s as %s\n", json_integer_value(json_object_get(one, "shard")),
               json_integer_value(json_object_get(one, "index")), REPLAY_STYLE(r, "32"),
               REPLAY_PLAIN(r), json_string_value(json_object_get(one, "against")));
    }
}

/* How many there are of the kinds of which not all were shown. */
static void verify_print_counts(const struct verify *v) {
    char text[TEXT_BYTES];
    bool any = false;
    for (uint32_t i = 0; i < v->counts_count; i++) {
        const struct verify_count *c = &v->counts[i];
        if (c->shown == c->faults) continue;
        printf("... and %s more %s in shard %u\n", text_count(text, c->faults - c->shown),
               fold_fault_name(c->kind), c->shard);
        any = true;
    }
    if (any && !v->replay->quiet) printf("(--max-faults all shows them)\n");
}

static json_t *verify_counts_json(const struct verify *v) {
    json_t *json = json_array();
    for (uint32_t i = 0; i < v->counts_count; i++) {
        const struct verify_count *c = &v->counts[i];
        json_array_append_new(json, json_pack("{s:s, s:i, s:I, s:I}", "kind",
                                              fold_fault_name(c->kind), "shard", (int)c->shard,
                                              "count", (json_int_t)c->faults, "shown",
                                              (json_int_t)c->shown));
    }
    return json;
}

static void verify_print(const struct verify *v, const json_t *against, uint64_t took_ns) {
    static const char *const heads[] = {"shard", "records", "events", "orders", "snapshots",
                                        "size"};
    struct replay *r = v->replay;
    uint64_t events = 0, unknown = 0;
    char text[TEXT_BYTES], hash[33];
    verify_print_counts(v);
    struct table *t = table_new(v->with_hash ? "rrrrrrl" : "rrrrrr", r->color);
    table_heading(t);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(t, NULL, "%s", heads[i]);
    if (v->with_hash) table_cell(t, NULL, "hash of the state at the last record");
    for (uint32_t i = 0; i < v->count; i++) {
        const struct verify_shard *s = &v->shards[i];
        table_cell(t, NULL, "%u", s->source->number);
        table_cell(t, NULL, "%s", text_count(text, s->fold->entries));
        table_cell(t, NULL, "%s", text_count(text, s->fold->events));
        table_cell(t, NULL, "%s", text_count(text, fold_table_count(s->fold->orders)));
        table_cell(t, NULL, "%s", text_count(text, s->snapshots));
        table_cell(t, NULL, "%s", text_size(text, s->fold->bytes));
        if (v->with_hash) table_cell(t, NULL, "%s", hash_text(&s->hash, hash));
        events += s->fold->events;
        unknown += s->fold->unknown;
    }
    if (!r->quiet) table_print(t, stdout, 0);
    table_delete(t);
    if (r->quiet) return;
    if (unknown) {
        printf("%s order%s began before the log does: versions and links are checked, contents "
               "cannot be.\n", text_count(text, unknown), text_plural(unknown));
    }
    double seconds = (double)took_ns / 1e9;
    char count[TEXT_BYTES], rate[TEXT_BYTES];
    printf("%s messages between shards. %s events in %.2f s, %s/s.\n",
           text_count(text, v->messages), text_count(count, events), seconds,
           text_count(rate, seconds > 0 ? (uint64_t)((double)events / seconds) : 0));
    verify_print_against(r, against);
    size_t i;
    json_t *note;
    json_array_foreach(v->notes, i, note) {
        printf("Note: %s.\n", json_string_value(json_object_get(note, "what")));
    }
    if (v->faults == 0) {
        printf("%sNo fault found.%s\n", REPLAY_STYLE(r, "32"), REPLAY_PLAIN(r));
    } else {
        printf("%s%s fault%s found.%s\n", REPLAY_STYLE(r, "1;31"), text_count(text, v->faults),
               text_plural(v->faults), REPLAY_PLAIN(r));
    }
}

static int verify_report(struct verify *v, json_t *against, uint64_t took_ns) {
    int status = v->faults ? REPLAY_FOUND : REPLAY_DONE;
    if (!v->json) {
        verify_print(v, against, took_ns);
        return status;
    }
    json_t *shards = json_array();
    for (uint32_t i = 0; i < v->count; i++) {
        json_array_append_new(shards, verify_shard_json(&v->shards[i], v->with_hash));
    }
    json_t *json = json_pack("{s:b, s:I, s:O, s:o, s:O, s:o, s:I, s:f}", "sound",
                             v->faults == 0, "faults_count", (json_int_t)v->faults, "faults",
                             v->json, "faults_by_kind", verify_counts_json(v), "notes", v->notes,
                             "shards", shards,
                             "messages", (json_int_t)v->messages, "seconds",
                             (double)(took_ns / 1000) / 1e6);
    if (json_array_size(against)) json_object_set(json, "against", against);
    return replay_print_json(json, status);
}

static bool verify_faults_shown(struct replay *r, int64_t *most) {
    const char *text = args_value(&r->args, "max-faults");
    *most = INT64_MAX;
    if (text && strcmp(text, "all") == 0) return true;
    *most = VERIFY_FAULTS_SHOWN;
    return replay_int(r, "max-faults", most);
}

int replay_verify(struct replay *r) {
    struct verify v = {.replay = r};
    struct moment at;
    if (!replay_moment(r, "at", &at) || !verify_faults_shown(r, &v.faults_shown_max)) {
        return REPLAY_USAGE;
    }
    v.with_hash = args_flag(&r->args, "hash");
    v.with_state = !args_flag(&r->args, "log-only") && at.kind == MOMENT_NONE;
    bool compared = args_value(&r->args, "against") != NULL;
    int status = compared ? replay_open_folded(r) : replay_open_source(r);
    if (status == REPLAY_DONE) status = against_check(r);
    if (status != REPLAY_DONE) return status;
    if (r->source.kind == SOURCE_FEED) v.with_state = false; /* it lies with the node */
    if (r->source.kind == SOURCE_BACKUP) v.with_state = false; /* its bases are judged by restore */
    pthread_mutex_init(&v.lock, NULL);
    v.json = r->json ? json_array() : NULL;
    v.notes = json_array();
    json_t *against = json_array();
    uint64_t began_ns = text_mono_ns();
    status = verify_begin(&v, &at);
    if (status == REPLAY_DONE) {
        status = replay_run(r, v.count, "verifying", "records", verify_records(&v), verify_shard,
                            &v);
    }
    if (status == REPLAY_DONE) verify_shards_there(&v);
    if (status == REPLAY_DONE) verify_note_all(&v);
    if (status == REPLAY_DONE) verify_messages(&v);
    if (status == REPLAY_DONE && replay_source_failed(r, &r->source)) status = REPLAY_FAILED;
    const char *other;
    for (size_t cursor = 0;
         status == REPLAY_DONE && (other = args_next(&r->args, "against", &cursor));) {
        status = verify_against(&v, other, against);
    }
    if (status == REPLAY_DONE) status = verify_report(&v, against, text_mono_ns() - began_ns);
    verify_end(&v);
    json_decref(v.json);
    json_decref(v.notes);
    json_decref(against);
    return status;
}

/* -- hash --------------------------------------------------------------------------------- */

struct hash_all { uint64_t upto[SHARDS_MAX]; struct fold_hash hash[SHARDS_MAX]; };

static int hash_one(struct replay_work *work, uint32_t i) {
    struct hash_all *all = work->arg;
    return hash_shard(work, &work->replay->source.shards[i], all->upto[i], &all->hash[i]);
}

int replay_hash(struct replay *r) {
    struct hash_all all = {.upto = {0}};
    struct moment at;
    uint64_t first, last, total = 0;
    char text[33];
    if (!replay_moment(r, "at", &at)) return REPLAY_USAGE;
    int status = replay_open_folded(r);
    if (status != REPLAY_DONE) return status;
    for (uint32_t i = 0; i < r->source.count; i++) {
        log_source_range(r->source.shards[i].log, &first, &last);
        all.upto[i] = moment_index(&at, &r->source.shards[i], last);
        if (all.upto[i] > last) all.upto[i] = last;
        total += all.upto[i];
    }
    status = replay_run(r, r->source.count, "folding", "records", total, hash_one, &all);
    if (status != REPLAY_DONE) return status;
    json_t *shards = json_array();
    for (uint32_t i = 0; i < r->source.count; i++) {
        const struct source_shard *s = &r->source.shards[i];
        json_array_append_new(shards, json_pack("{s:i, s:I, s:s, s:I}", "shard", (int)s->number,
                              "index", (json_int_t)all.upto[i], "hash",
                              hash_text(&all.hash[i], text), "actors",
                              (json_int_t)all.hash[i].actors));
        if (!r->json) {
            printf("%u  %" PRIu64 "  %s  %" PRIu64 "\n", s->number, all.upto[i], text,
                   all.hash[i].actors);
        }
    }
    if (r->json) {
        return replay_print_json(json_pack("{s:s, s:o}", "cluster_id", r->source.cluster_id,
                                           "shards", shards), REPLAY_DONE);
    }
    json_decref(shards);
    return REPLAY_DONE;
}
