#include "clients/replay/replay.h"

#include <inttypes.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/cli/progress.h"
#include "clients/cli/text.h"
#include "clients/cli/when.h"
#include "clients/replay/feed_link.h"
#include "engine/base/ulid.h"

/* With what the allocator and the maps of files add, well below half a gibibyte. */
enum { REPLAY_MEMORY_MIB = 256, REPLAY_PATIENCE_MS = 30000 };

/* For --json: what went wrong last, unless standard output has a report that is whole. */
static struct {
    pthread_mutex_t lock;
    char sentence[1400];
    bool reported;
} replay_told = {.lock = PTHREAD_MUTEX_INITIALIZER};

void replay_error(const struct replay *r, const char *format, ...) {
    va_list args;
    pthread_mutex_lock(&replay_told.lock);
    va_start(args, format);
    vsnprintf(replay_told.sentence, sizeof replay_told.sentence, format, args);
    va_end(args);
    fprintf(stderr, "%s %s\n", r->color_errors ? "\x1b[31mjumun-replay:\x1b[0m" : "jumun-replay:",
            replay_told.sentence);
    pthread_mutex_unlock(&replay_told.lock);
}

int replay_usage(const struct replay *r, const char *format, ...) {
    char sentence[1400];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    replay_error(r, "%s", sentence);
    fprintf(stderr, "Try: jumun-replay %s%s--help\n", r->command ? r->command->name : "",
            r->command ? " " : "");
    return REPLAY_USAGE;
}

const char *replay_word(const struct replay *r, int i) {
    return i < r->args.positionals_count ? r->args.positionals[i] : NULL;
}

/* Tells on stderr where a moment that names records of some shards leaves the others. */
static void replay_tell_unnamed(const struct replay *r, const struct source *source,
                                const char *name, const struct moment *moment);

/* A moment names shards and records that are there: else a slip of the hand would mean "all". */
static int replay_check_moments(struct replay *r) {
    static const char *const names[] = {"from", "to", "at"};
    struct moment m;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!replay_moment(r, names[i], &m)) return REPLAY_USAGE;
        int status = replay_moment_reached(r, &r->source, names[i], &m);
        if (status != REPLAY_DONE) return status;
        replay_tell_unnamed(r, &r->source, names[i], &m);
    }
    return REPLAY_DONE;
}

bool replay_lacks_shard(const struct replay *r, struct source *source) {
    bool backup = r->command->run == replay_backup;
    uint32_t number;
    uint64_t told;
    int64_t lost = args_value(&r->args, "shard") ? -1 : source_lost_shard(source, 0);
    if (lost < 0 && source_lost_log(source, &number, &told)) {
        replay_error(r, "%s, shard %u: its log has no record, although there were %" PRIu64
                     ": records are lost (verify tells more)", source->path, number, told);
        return true;
    }
    if (lost < 0) return false;
    replay_error(r, "%s has no log of shard %d: %s", source->path, (int)lost,
                 backup ? "a backup of the rest would pass for the whole; cp copies what is left"
                 : source == &r->source ? "--shard N looks at one that is there"
                                        : "what is left of it is not compared");
    return true;
}

/* A part of the orders is not taken for all of them. verify names the shard that is lost, what is
 * made of a directory has its own words, and an order lies in one shard. */
static bool replay_takes_part(const struct replay *r) {
    static int (*const parts[])(struct replay *) = {replay_verify, replay_build, replay_show,
                                                    replay_history};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (r->command->run == parts[i]) return true;
    }
    return false;
}

int replay_open_source(struct replay *r) {
    char error[1200];
    int64_t only = -1;
    if (!replay_int(r, "shard", &only)) return REPLAY_USAGE;
    int rc = source_open(&r->source, replay_word(r, 0), only, error, sizeof error);
    if (rc == 0 && !replay_takes_part(r) && replay_lacks_shard(r, &r->source)) {
        return REPLAY_FAILED;
    }
    if (rc == 0) return replay_check_moments(r);
    replay_error(r, "%s", error);
    return rc == SOURCE_NO_SHARD ? REPLAY_NOT_THERE : REPLAY_FAILED;
}

/* Whether the feed that it is read from has failed; told, once for each source. */
static bool replay_log_failed(const struct replay *r, const struct source_shard *shard) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const char *told; /* shards of a node that is away fail together: one sentence will do */
    const char *failure = log_source_failure(shard->log);
    if (!failure) return false;
    pthread_mutex_lock(&lock);
    bool again = told && strcmp(told, failure) == 0;
    told = failure;
    pthread_mutex_unlock(&lock);
    if (!again && !replay_interrupted()) replay_error(r, "%s", failure);
    return true;
}

bool replay_source_failed(const struct replay *r, const struct source *source) {
    for (uint32_t i = 0; i < source->count; i++) {
        if (replay_log_failed(r, &source->shards[i])) return true;
    }
    return false;
}

int replay_fetch_states(const struct replay *r, struct source *source) {
    char error[1200];
    if (source_fetch_states(source, r->scratch, error, sizeof error) == 0) return REPLAY_DONE;
    if (!replay_interrupted()) replay_error(r, "%s", error);
    return replay_interrupted() ? REPLAY_STOPPED : REPLAY_FAILED;
}

int replay_open_folded(struct replay *r) {
    int status = replay_open_source(r);
    return status == REPLAY_DONE ? replay_fetch_states(r, &r->source) : status;
}

bool replay_moment(const struct replay *r, const char *name, struct moment *moment) {
    const char *text = args_value(&r->args, name);
    char error[256];
    *moment = (struct moment){.kind = MOMENT_NONE};
    if (!text || moment_parse(text, text_now_ms(), moment, error, sizeof error)) return true;
    replay_usage(r, "--%s: %s", name, error);
    return false;
}

int replay_moment_reached(const struct replay *r, struct source *source, const char *name,
                          const struct moment *moment) {
    uint64_t first, last, newest = 0;
    if (moment->kind != MOMENT_INDEX) return REPLAY_DONE;
    /* Who follows may begin with the record that comes next. */
    uint64_t next = args_flag(&r->args, "follow") && strcmp(name, "from") == 0;
    for (uint32_t i = 0; i < source->count; i++) {
        log_source_range(source->shards[i].log, &first, &last);
        if (last > newest) newest = last;
    }
    for (uint32_t n = 0; n < moment->named_count; n++) {
        const struct source_shard *shard = source_shard_of(source, moment->named[n].shard);
        if (!shard && args_value(&r->args, "shard")) continue; /* left out */
        if (!shard) {
            replay_error(r, "--%s: %s has no shard %u", name, source->path,
                         moment->named[n].shard);
            return REPLAY_NOT_THERE;
        }
        log_source_range(shard->log, &first, &last);
        if (moment->named[n].index <= last + next) continue;
        replay_error(r, "--%s: shard %u of %s has no record %" PRIu64 ": its log ends with "
                     "%" PRIu64, name, shard->number, source->path, moment->named[n].index, last);
        return REPLAY_NOT_THERE;
    }
    if (!moment->indexed || moment->index <= newest + next) return REPLAY_DONE;
    replay_error(r, "--%s: no shard of %s has a record %" PRIu64 ": the longest log ends with "
                 "%" PRIu64, name, source->path, moment->index, newest);
    return REPLAY_NOT_THERE;
}

static void replay_tell_unnamed(const struct replay *r, const struct source *source,
                                const char *name, const struct moment *moment) {
    enum { SHOWN_MAX = 8 };
    bool from = strcmp(name, "from") == 0;
    char list[SHOWN_MAX * 48] = "";
    uint32_t unnamed = 0;
    size_t at = 0;
    if (r->quiet || moment->kind != MOMENT_INDEX || moment->indexed) return;
    for (uint32_t i = 0; i < source->count; i++) {
        uint64_t first, last;
        bool named = moment_names(moment, source->shards[i].number);
        if (named || ++unnamed > SHOWN_MAX) continue;
        log_source_range(source->shards[i].log, &first, &last);
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%u (record %" PRIu64 ")",
                               at ? ", " : "", source->shards[i].number, from ? first : last);
    }
    if (unnamed == 0) return;
    char more[32] = "";
    if (unnamed > SHOWN_MAX) snprintf(more, sizeof more, " and %u more", unnamed - SHOWN_MAX);
    fprintf(stderr, "--%s %s does not name shard%s %s%s: %s at the %s of %s log%s\n", name,
            args_value(&r->args, name), unnamed == 1 ? "" : "s", list, more,
            from ? unnamed == 1 ? "it begins" : "they begin"
                 : unnamed == 1 ? "it stands" : "they stand",
            from ? "beginning" : "end", unnamed == 1 ? "its" : "their", unnamed == 1 ? "" : "s");
}

/* Up to the first events that both have they are the same: all else may be so by chance. */
static bool logs_begin_alike(const struct source_shard *a, const struct source_shard *b) {
    uint64_t first_a, first_b, last_a, last_b;
    struct log_item x, y;
    bool alike = true, events = false;
    log_source_range(a->log, &first_a, &last_a);
    log_source_range(b->log, &first_b, &last_b);
    uint64_t first = first_a > first_b ? first_a : first_b;
    struct log_cursor *c = log_cursor_open(a->log, first, last_a, false);
    struct log_cursor *d = log_cursor_open(b->log, first, last_b, false);
    while (c && d && alike && !events) {
        alike = log_cursor_next(c, &x) == LOG_RECORD && log_cursor_next(d, &y) == LOG_RECORD &&
                x.index == y.index && x.header->checksum == y.header->checksum;
        events = alike && x.header->type == RECORD_EVENTS;
    }
    log_cursor_close(c);
    log_cursor_close(d);
    return events;
}

bool replay_other_cluster(const struct replay *r, const struct source *other) {
    const struct source *mine = &r->source;
    if (!mine->cluster_id[0] || !other->cluster_id[0] ||
        strcmp(mine->cluster_id, other->cluster_id) == 0) {
        return false;
    }
    for (uint32_t i = 0; i < mine->count; i++) {
        for (uint32_t j = 0; j < other->count; j++) {
            if (mine->shards[i].number == other->shards[j].number &&
                logs_begin_alike(&mine->shards[i], &other->shards[j])) {
                return false;
            }
        }
    }
    replay_error(r, "%s is of another cluster (%s) than %s (%s)", other->path, other->cluster_id,
                 mine->path, mine->cluster_id);
    return true;
}

int64_t replay_moment_ms(const struct moment *moment, const struct replay_history *history) {
    int64_t now_ms = text_now_ms();
    if (moment->kind == MOMENT_TIME) return moment->time_ms < now_ms ? moment->time_ms : now_ms;
    if (moment->kind == MOMENT_NONE || history->count == 0) return now_ms;
    return history->events[history->count - 1].time_ms;
}

bool replay_int(const struct replay *r, const char *name, int64_t *value) {
    const char *text = args_value(&r->args, name);
    if (!text || (text_parse_int64(text, value) && *value >= 0)) return true;
    replay_usage(r, "--%s: \"%.60s\" is not a whole number", name, text);
    return false;
}

bool replay_key(const struct replay *r, const char *text, struct id128 *key) {
    if (ulid_parse(text, strlen(text), key) && !id128_is_zero(key)) return true;
    replay_usage(r, "\"%.60s\" is not a key: 26 characters of Crockford base32", text);
    return false;
}

void replay_print_one(json_t *json) {
    size_t flags = isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT;
    json_dumpf(json, stdout, flags | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    fputc('\n', stdout);
    json_decref(json);
}

int replay_print_json(json_t *json, int status) {
    replay_print_one(json);
    replay_told.reported = true;
    return status;
}

const char *replay_key_text(const struct id128 *key, char text[27]) {
    text[0] = 0;
    if (!id128_is_zero(key)) ulid_format(key, text);
    return text;
}

/* -- work by shards ----------------------------------------------------------------------- */

static volatile sig_atomic_t replay_signalled;

static void replay_on_signal(int number) {
    (void)number;
    if (replay_signalled) _exit(REPLAY_STOPPED); /* the second one does not wait */
    replay_signalled = 1;
}

bool replay_interrupted(void) { return replay_signalled != 0 || ferror_unlocked(stdout); }

struct replay_pool {
    struct replay_work work;
    int (*run)(struct replay_work *work, uint32_t i);
    uint32_t count;
    atomic_uint next, finished;
    atomic_int status;
};

static void *pool_run(void *arg) {
    struct replay_pool *pool = arg;
    uint32_t i;
    while ((i = atomic_fetch_add(&pool->next, 1)) < pool->count) {
        int status = pool->run(&pool->work, i), worst = atomic_load(&pool->status);
        while (status > worst && !atomic_compare_exchange_weak(&pool->status, &worst, status)) {
        }
    }
    atomic_fetch_add(&pool->finished, 1);
    return NULL;
}

bool replay_progress(struct replay_work *work, uint64_t n) {
    atomic_fetch_add_explicit(&work->done, n, memory_order_relaxed);
    return !replay_interrupted() && !atomic_load_explicit(&work->stop, memory_order_relaxed);
}

static void pool_watch(struct replay *r, struct replay_pool *pool, uint32_t threads,
                       const char *label, const char *unit) {
    struct progress p;
    bool shown = !r->quiet && isatty(STDERR_FILENO);
    progress_start(&p, shown ? stderr : NULL, label, unit, r->color_errors);
    uint32_t waited_us = 200; /* little work ends at once */
    while (atomic_load(&pool->finished) < threads) {
        usleep(waited_us);
        if (waited_us < 50000) waited_us *= 2;
        uint64_t done = atomic_load(&pool->work.done), total = atomic_load(&pool->work.total);
        progress_update(&p, total ? (double)done / (double)total : -1, done, "");
    }
    uint64_t done = atomic_load(&pool->work.done), total = atomic_load(&pool->work.total);
    progress_end(&p, total && done < total ? (double)done / (double)total : 1, done, "");
}

int replay_run(struct replay *r, uint32_t count, const char *label, const char *unit,
               uint64_t total, int (*run)(struct replay_work *work, uint32_t i), void *arg) {
    struct replay_pool pool = {.run = run, .count = count};
    pthread_t threads[SHARDS_MAX];
    if (replay_source_failed(r, &r->source)) return REPLAY_FAILED; /* a moment was not found */
    pool.work.replay = r;
    pool.work.arg = arg;
    atomic_store(&pool.work.total, total);
    uint32_t wanted = count < r->threads ? count : r->threads, started = 0;
    if (wanted > SHARDS_MAX) wanted = SHARDS_MAX;
    while (started < wanted && pthread_create(&threads[started], NULL, pool_run, &pool) == 0) {
        started++;
    }
    if (started == 0) {
        started = 1;
        pool_run(&pool);
        atomic_store(&pool.finished, 1);
        wanted = 0;
    }
    pool_watch(r, &pool, started, label, unit);
    for (uint32_t i = 0; i < started && wanted > 0; i++) pthread_join(threads[i], NULL);
    return replay_interrupted() ? REPLAY_STOPPED : atomic_load(&pool.status);
}

bool replay_log_is_cut(const struct source_shard *shard) {
    uint64_t first, last;
    log_source_range(shard->log, &first, &last);
    return first > 1;
}

struct fold_options replay_fold_options(const struct replay *r, const struct source_shard *shard) {
    uint32_t at_once = r->source.count < r->threads ? r->source.count : r->threads;
    /* The number of shards is left open: a cluster grows, and node.json tells of its beginning. */
    return (struct fold_options){.shard = shard->number,
                                 .memory_bytes_max = r->memory_bytes_max / (at_once ? at_once : 1),
                                 .scratch = r->scratch,
                                 .unknown_allowed = replay_log_is_cut(shard)};
}

struct fold *replay_fold_begin(struct replay *r, const struct source_shard *shard,
                               const struct fold_options *options, uint64_t upto, int *status) {
    struct fold *f = fold_open(options);
    char error[1200] = "no memory";
    *status = f ? REPLAY_DONE : REPLAY_FAILED;
    if (f && !replay_log_is_cut(shard)) return f;
    if (f) { /* what came before stands in a stored state */
        struct state_source_marker marker;
        uint64_t exact = 0, first, last;
        log_source_range(shard->log, &first, &last);
        const char *path = shard->base[0] ? shard->base : shard->state;
        struct state_source *state = NULL;
        f->options.unknown_allowed = false;
        *status = REPLAY_NOT_THERE;
        if (!*path) snprintf(error, sizeof error, "the log does not reach back to record 1, and no "
                             "state is stored%s", shard->link ? " (import_required)" : "");
        else state = state_source_open(path, error, sizeof error);
        bool begun = state &&
                     fold_begin_with(f, state, &marker, &exact, error, sizeof error) == 0;
        state_source_close(state);
        if (begun && f->first_index < first) {
            snprintf(error, sizeof error, "%s reflects the log up to record %llu, but the log "
                     "begins with %llu: what lies between is lost", path,
                     (unsigned long long)f->index, (unsigned long long)first);
            begun = false;
            exact = 0;
        }
        if (begun && exact <= upto) {
            *status = REPLAY_DONE;
            return f;
        }
        if (begun) {
            snprintf(error, sizeof error, "the log does not reach back to record 1; with the "
                     "stored state it can be folded to record %llu at the earliest",
                     (unsigned long long)exact);
        }
    }
    replay_error(r, "shard %u: %s", shard->number, error);
    fold_close(f);
    return NULL;
}

int replay_fold(struct replay_work *work, const struct source_shard *shard, struct fold *fold,
                uint64_t upto) {
    enum { STEPS = 256 };
    uint64_t first, last, steps = 0;
    struct log_item item;
    enum log_step step;
    log_source_range(shard->log, &first, &last);
    if (upto > last) upto = last;
    if (fold->index == 0 && last + 1 == first) { /* an installed state, and nothing behind it yet */
        fold->index = last;
        fold->first_index = first;
    }
    uint64_t from = fold->index ? fold->index + 1 : first;
    struct log_cursor *c = log_cursor_open(shard->log, from, upto, true);
    if (!c) {
        replay_error(work->replay, "shard %u: no memory", shard->number);
        return REPLAY_FAILED;
    }
    int status = REPLAY_DONE;
    while ((step = log_cursor_next(c, &item)) != LOG_END) {
        if (!fold_take(fold, step, &item)) break;
        if (++steps % STEPS == 0 && !replay_progress(work, STEPS)) {
            status = REPLAY_STOPPED;
            break;
        }
    }
    replay_progress(work, steps % STEPS);
    log_cursor_close(c);
    if (status == REPLAY_DONE && replay_log_failed(work->replay, shard)) status = REPLAY_FAILED;
    if (fold_table_error(fold->orders)[0]) {
        replay_error(work->replay, "%s", fold_table_error(fold->orders));
        status = REPLAY_FAILED;
    } else if (fold->failed) {
        replay_error(work->replay, "shard %u: no memory", shard->number);
        status = REPLAY_FAILED;
    }
    return status;
}

/* -- the program -------------------------------------------------------------------------- */

static bool replay_colors(struct replay *r) {
    const char *when = args_value(&r->args, "color"), *no_color = getenv("NO_COLOR");
    bool allowed = !(no_color && *no_color);
    r->color = allowed && isatty(STDOUT_FILENO);
    r->color_errors = allowed && isatty(STDERR_FILENO);
    if (!when || strcmp(when, "auto") == 0) return true;
    if (strcmp(when, "always") != 0 && strcmp(when, "never") != 0) return false;
    r->color = r->color_errors = strcmp(when, "always") == 0;
    return true;
}

/* For whatever opens a connection: it looks into the environment. */
static void replay_certificates(const struct replay *r) {
    const char *v;
    if ((v = args_value(&r->args, "tls-ca"))) setenv("JUMUN_TLS_CA", v, 1);
    if ((v = args_value(&r->args, "tls-cert"))) setenv("JUMUN_TLS_CERT", v, 1);
    if ((v = args_value(&r->args, "tls-key"))) setenv("JUMUN_TLS_KEY", v, 1);
}

/* REPLAY_DONE, or the status to leave with. */
static int replay_globals(struct replay *r) {
    /* Called twice, for options before the command's name and behind it: what was given stays. */
    int64_t threads = r->threads ? r->threads : (int64_t)sysconf(_SC_NPROCESSORS_ONLN);
    int64_t memory_mib =
        r->memory_bytes_max ? (int64_t)(r->memory_bytes_max >> 20) : REPLAY_MEMORY_MIB;
    r->json |= args_flag(&r->args, "json");
    r->quiet |= args_flag(&r->args, "quiet");
    if (args_value(&r->args, "scratch")) r->scratch = args_value(&r->args, "scratch");
    if (!r->scratch) r->scratch = getenv("TMPDIR");
    if (!r->scratch) r->scratch = "/tmp";
    replay_certificates(r);
    if (!replay_colors(r)) return replay_usage(r, "--color: is auto, always or never");
    if (!replay_int(r, "threads", &threads) || !replay_int(r, "memory", &memory_mib)) {
        return REPLAY_USAGE;
    }
    const char *patience = args_value(&r->args, "patience");
    if (r->patience_ms == 0) r->patience_ms = REPLAY_PATIENCE_MS;
    char fault[WHEN_ERROR_BYTES];
    if (patience && !when_parse_span(patience, &r->patience_ms))
        return replay_usage(r, "--patience: %s", when_span_fault(patience, fault));
    if (r->patience_ms < 1) return replay_usage(r, "--patience: must be 1ms or more");
    feed_link_settings = (struct feed_link_settings){
        .patience_ms = r->patience_ms < INT32_MAX ? (uint32_t)r->patience_ms : INT32_MAX,
        .quiet = r->quiet, .interrupted = replay_interrupted};
    r->threads = threads < 1 ? 1 : threads > SHARDS_MAX ? SHARDS_MAX : (uint32_t)threads;
    r->memory_bytes_max = (uint64_t)memory_mib << 20;
    return REPLAY_DONE;
}

static const struct replay_command *replay_find(const char *name) {
    for (const struct replay_command *c = replay_commands; c->name; c++) {
        if (strcmp(c->name, name) == 0) return c;
    }
    return NULL;
}

static bool replay_wants_help(const struct replay *r) { return args_flag(&r->args, "help"); }

static int replay_run_command(struct replay *r, int argc, char **argv) {
    char error[256];
    r->command = replay_find(argv[0]);
    if (!r->command) return replay_usage(r, "\"%.60s\" is not a command", argv[0]);
    const struct replay_command *c = r->command;
    const struct args_option *tables[3] = {c->options, NULL, replay_global_options};
    if (!args_parse(&r->args, argc, argv, tables, false, error, sizeof error)) {
        for (int i = 1; i < argc; i++) r->json |= strcmp(argv[i], "--json") == 0;
        return replay_usage(r, "%s", error);
    }
    if (replay_wants_help(r)) {
        replay_print_help(r, c, stdout);
        return REPLAY_DONE;
    }
    int status = replay_globals(r);
    if (status != REPLAY_DONE) return status;
    if (r->args.positionals_count < c->positionals_min) {
        return replay_usage(r, "%s needs %s", c->name, c->arguments);
    }
    if (r->args.positionals_count > c->positionals_max) {
        return replay_usage(r, "\"%.60s\" is one word too many",
                            r->args.positionals[c->positionals_max]);
    }
    return c->run(r);
}

/* What is told and cannot be read by a person has a form for programs too. */
static void replay_print_failure(const struct replay *r, int status) {
    bool failed = status >= REPLAY_USAGE && status != REPLAY_READER_GONE;
    if (!r->json || !failed || replay_told.reported) return;
    if (status == REPLAY_STOPPED) replay_told.sentence[0] = 0;
    const char *sentence = replay_told.sentence[0] ? replay_told.sentence : "stopped by a signal";
    replay_print_one(json_pack("{s:s, s:i}", "error", sentence, "status", status));
}

/* Whatever is left goes out. The status to leave with. */
static int replay_end(struct replay *r, int status) {
    const char *why;
    if (status <= REPLAY_FOUND && replay_source_failed(r, &r->source)) status = REPLAY_FAILED;
    replay_print_failure(r, status);
    int output = output_end(&why);
    if (output == 0 || (status > REPLAY_FOUND && status != REPLAY_STOPPED) || replay_signalled) {
        return status;
    }
    if (output == OUTPUT_READER_GONE) return REPLAY_READER_GONE;
    replay_error(r, "standard output: %s", why);
    return REPLAY_FAILED;
}

int replay_main(int argc, char **argv) {
    struct replay *r = calloc(1, sizeof *r);
    char error[256];
    if (!r) return REPLAY_FAILED;
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    const struct sigaction on_signal = {.sa_handler = replay_on_signal};
    sigaction(SIGINT, &on_signal, NULL);
    sigaction(SIGTERM, &on_signal, NULL);
    const struct args_option *tables[3] = {replay_global_options, NULL, NULL};
    int status;
    if (!args_parse(&r->args, argc, argv, tables, true, error, sizeof error)) {
        status = replay_usage(r, "%s", error);
    } else if (replay_wants_help(r)) {
        replay_colors(r);
        replay_print_overview(r, stdout);
        status = REPLAY_DONE;
    } else if (args_flag(&r->args, "version")) {
        puts("jumun-replay " JUMUN_VERSION);
        status = REPLAY_DONE;
    } else if ((status = replay_globals(r)) == REPLAY_DONE) {
        if (r->args.positionals_count == 0) {
            replay_print_overview(r, stderr);
            status = REPLAY_USAGE;
        } else {
            status = replay_run_command(r, r->args.positionals_count, r->args.positionals);
        }
    }
    status = replay_end(r, status);
    source_close(&r->source);
    free(r);
    return status;
}
