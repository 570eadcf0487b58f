/* jumun watch: changes as they happen. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clients/cli/cli_rows.h"
#include "clients/cli/durable.h"
#include "clients/cli/output.h"
#include "clients/cli/text.h"
#include "clients/sdk/query_reply.h"
#include "clients/sdk/watch.h"

enum {
    WATCH_HEAR_MS = 3000,      /* within which a replica hears of what was just written */
    WATCH_AGAIN_MS = 50,       /* between looks for a beginning */
    WATCH_FRESH_MS = 2000      /* a replica whose age is below it knows where the log ends */
};

struct watching {
    struct cli *cli;
    const char *fields[CLI_FIELDS_MAX];
    uint32_t fields_count;
    const char *tokens_path;
    struct cli_cluster_of cluster;
    bool written_down;         /* the tokens, by the user, not in a file */
    struct rows_state state;
    int64_t count, told;       /* guarded by the lock */
    bool over, failed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static volatile sig_atomic_t watch_stopped;

static void watch_on_signal(int signal_number) {
    (void)signal_number;
    watch_stopped = 1;
}

static void watch_print(struct watching *w, const jumun_change *change) {
    json_t *row = cli_row_json(change->row, change->row_bytes, w->fields, w->fields_count);
    if (w->cli->json || w->fields_count) {
        json_dumpf(row, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        fputc('\n', stdout);
    } else {
        char time[TEXT_BYTES], money[TEXT_BYTES];
        const char *state = json_string_value(json_object_get(row, "state"));
        const char *currency = json_string_value(json_object_get(row, "currency"));
        printf("%.12s  %s  %s%-10s%s  version %lld  %s\n", text_time(time, text_now_ms()) + 11,
               json_string_value(json_object_get(row, "key")), CLI_STYLE(w->cli, "1"),
               state ? state : "?", CLI_PLAIN(w->cli),
               (long long)json_integer_value(json_object_get(row, "version")),
               text_money(money, json_integer_value(json_object_get(row, "total")),
                          currency ? currency : ""));
    }
    json_decref(row);
}

/* A thread of the library. What was printed is out, and on the disk where that is a file, before
 * the tokens say so. With tokens the last change is one that has some, else what was told with it
 * would be told again by each command that goes on, for ever. */
static bool watch_change(void *arg, const jumun_change *change) {
    struct watching *w = arg;
    bool kept = change->tokens && w->tokens_path;
    watch_print(w, change);
    bool ok = kept ? durable_sync(stdout) : fflush(stdout) == 0;
    if (ok && kept) {
        memcpy(w->state.tokens, change->tokens, change->tokens_count * sizeof *change->tokens);
        w->state.tokens_count = change->tokens_count;
        ok = rows_state_save(w->tokens_path, &w->state);
    }
    pthread_mutex_lock(&w->lock);
    w->told++;
    w->failed |= !ok;
    w->over = w->failed || (w->count && w->told >= w->count && (kept || !w->tokens_path));
    bool goes_on = !w->over;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return goes_on;
}

static void watch_until_over(struct watching *w) {
    pthread_mutex_lock(&w->lock);
    while (!w->over && !watch_stopped && !output_reader_gone()) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000; /* a signal does not wake it */
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&w->changed, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
}

/* False after the error was printed, with the status in *status. */
static bool watch_since(struct watching *w, jumun_watch_options *o, int *status) {
    char command[ROWS_COMMAND_BYTES];
    const char *since = args_value(&w->cli->args, "since");
    bool exists = false;
    snprintf(command, sizeof command, "watch %s", cli_word(w->cli, 0));
    if (w->tokens_path) {
        *status = CLI_BAD_FILE;
        o->has_since = rows_state_load(w->tokens_path, &w->state, &exists);
        if (!rows_state_is_ours(w->cli, w->tokens_path, &w->state, command)) return false;
    }
    if (since) {
        memset(&w->state, 0, sizeof w->state);
        o->has_since = w->written_down =
            cli_tokens_parse(since, w->state.tokens, &w->state.tokens_count);
        if (!o->has_since) {
            *status = cli_usage(w->cli, "--since: \"%.60s\" is not of the form 0:17,1:4", since);
            return false;
        }
    } else if (w->tokens_path) {
        if (!o->has_since && exists) {
            cli_error(w->cli, "%s: it does not hold tokens", w->tokens_path);
            return false;
        }
        if (exists && rows_state_is_unfinished(w->cli, w->tokens_path, &w->state)) return false;
        if (!cli_cluster_agrees(w->cli, &w->cluster, w->state.cluster, "%.300s", w->tokens_path))
            return false;
    }
    memcpy(w->state.command, command, sizeof command);
    o->since = w->state.tokens;
    o->since_count = w->state.tokens_count;
    return true;
}

/* -- whether there is such a place ------------------------------------------------------------- */

/* The first token that lies behind the end of its log, as far as replicas know that end; NULL =
 * none. What has just been written may take a moment to be heard of there. */
static const jumun_token *watch_beyond(const struct watching *w,
                                       const struct cli_replica_status *list, uint32_t count,
                                       uint64_t *end) {
    for (uint32_t t = 0; t < w->state.tokens_count; t++) {
        bool heard = false, reached = false;
        *end = 0;
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t p = 0; p < list[i].places_count; p++) {
                const struct cli_place *place = &list[i].places[p];
                if (place->shard != w->state.tokens[t].shard) continue;
                uint64_t last = place->index > place->commit ? place->index : place->commit;
                heard = heard || place->age_ms < WATCH_FRESH_MS;
                reached = reached || last >= w->state.tokens[t].index;
                if (last > *end) *end = last;
            }
        }
        if (heard && !reached) return &w->state.tokens[t];
    }
    return NULL;
}

/* The replica that knows most shards; NULL = none knows any. */
static const struct cli_replica_status *watch_widest(const struct cli_replica_status *list,
                                                     uint32_t count) {
    const struct cli_replica_status *widest = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (list[i].cluster[0] && (!widest || list[i].places_count > widest->places_count))
            widest = &list[i];
    return widest && widest->places_count ? widest : NULL;
}

/* One look at all replicas. CLI_DONE, or a status after the error was printed; *again = that a
 * token lies behind the end may be because the replicas have not heard yet. */
static int watch_look(struct watching *w, bool last, bool *again) {
    struct cli_replica_status *list;
    uint32_t count = cli_replicas_ask(w->cli, cli_replicas(w->cli), &list);
    const struct cli_replica_status *widest = watch_widest(list, count);
    uint64_t end;
    int status = cli_replicas_agree(w->cli, &w->cluster, list, count);
    if (status != CLI_DONE) {
        *again = false;
    } else if (w->written_down && widest &&
               !cli_tokens_name_all(w->cli, w->state.tokens, w->state.tokens_count,
                                    widest->places, widest->places_count)) {
        status = CLI_USAGE;
    } else {
        const jumun_token *beyond = watch_beyond(w, list, count, &end);
        *again = beyond && !last;
        if (beyond && last) {
            cli_error(w->cli, "shard %u has come to %" PRIu64 " only, the token says %" PRIu64
                      ": is it another cluster's, or of before a backup was restored? Then begin "
                      "without it", beyond->shard, end, beyond->index);
            status = CLI_REFUSED;
        }
    }
    free(list);
    return status;
}

static int watch_place(struct watching *w) {
    bool again = true;
    int status = CLI_DONE;
    uint64_t patience_ms = w->cli->timeout_ms < WATCH_HEAR_MS ? w->cli->timeout_ms : WATCH_HEAR_MS;
    uint64_t until_ns = text_mono_ns() + patience_ms * 1000000;
    while (again && status == CLI_DONE && !watch_stopped) {
        again = false;
        status = watch_look(w, text_mono_ns() >= until_ns, &again);
        if (again) usleep(100000);
    }
    memcpy(w->state.cluster, w->cluster.id, sizeof w->state.cluster);
    return status;
}

/* "From now on" begins with the tokens of this answer. A replica that still fetches a shard does
 * not know where that one is. */
static bool watch_from_now(struct watching *w, const jumun_answer *a) {
    struct query_changes *changes = malloc(sizeof *changes);
    bool ok = changes && a->missing_count == 0 &&
              query_changes_read(a->value, a->value_bytes, changes) && changes->tokens_count > 0 &&
              changes->tokens_count <= CLI_TOKENS_MAX;
    if (ok) {
        memcpy(w->state.tokens, changes->tokens, changes->tokens_count * sizeof *changes->tokens);
        w->state.tokens_count = changes->tokens_count;
    }
    free(changes);
    return ok;
}

/* Where it begins is kept before anything is told: who was stopped before the first change goes on
 * there too. The reason why there can be no watch; CLI_DONE: none is seen. Tells what the replica
 * lacks. */
static int watch_can_be(struct watching *w, jumun_queries *q, jumun_watch_options *o) {
    const jumun_query query = {.kind = JUMUN_CHANGES, .subject = cli_word(w->cli, 0),
                               .demand = {.no_stale = !o->has_since}};
    uint64_t until_ns = text_mono_ns() + (uint64_t)w->cli->timeout_ms * 1000000;
    int status = CLI_DONE;
    bool begins = o->has_since, told = false;
    do {
        jumun_answer *a;
        int code = jumun_query_run(q, &query, &a);
        if (code != JUMUN_OK) status = cli_query_failed(w->cli, code, a);
        else if (!told) cli_query_caveats(w->cli, &query.demand, a);
        told = true;
        if (code == JUMUN_OK && !begins) begins = watch_from_now(w, a);
        jumun_answer_free(a);
        if (status != CLI_DONE || begins || watch_stopped) break;
        usleep(WATCH_AGAIN_MS * 1000);
    } while (text_mono_ns() < until_ns);
    if (status == CLI_DONE && !begins && !watch_stopped)
        status = cli_query_failed(w->cli, JUMUN_NOT_SENT, NULL);
    if (status != CLI_DONE || !begins) return status;
    o->has_since = true;
    o->since_count = w->state.tokens_count; /* `since` is where they are */
    if (!w->tokens_path || rows_state_save(w->tokens_path, &w->state)) return CLI_DONE;
    cli_error(w->cli, "%s: cannot be written", w->tokens_path);
    return CLI_BAD_FILE;
}

static int watch_run(struct watching *w, jumun_queries *q, jumun_watch_options *o) {
    char error[256] = "";
    const char *fault = watch_topic_fault(cli_word(w->cli, 0));
    int status = fault ? cli_usage(w->cli, "%s", fault) : watch_can_be(w, q, o);
    if (status != CLI_DONE || watch_stopped) return status;
    jumun_watch *watch = jumun_watch_open(q, cli_word(w->cli, 0), o, watch_change, w, error,
                                          sizeof error);
    if (!watch) return cli_usage(w->cli, "%s", error);
    if (!w->cli->quiet && !w->cli->json)
        fprintf(stderr, "watching %s (Ctrl-C ends)\n", cli_word(w->cli, 0));
    watch_until_over(w);
    jumun_watch_close(watch);
    if (output_reader_gone()) return OUTPUT_READER_GONE;
    if (!w->failed || ferror(stdout)) return CLI_DONE; /* cli_main() tells of a full disk */
    cli_error(w->cli, "%s: cannot be written", w->tokens_path);
    return CLI_BAD_FILE;
}

static bool watch_count(struct watching *w) {
    w->count = 1;
    if (!cli_int_option(w->cli, "count", &w->count)) return false;
    if (w->count < 1) {
        cli_usage(w->cli, "--count: must be at least 1");
        return false;
    }
    if (!args_value(&w->cli->args, "count")) w->count = 0; /* for ever */
    return true;
}

static int watch_begin(struct watching *w) {
    jumun_watch_options o = {0};
    int status = CLI_USAGE;
    struct sigaction action = {.sa_handler = watch_on_signal};
    if (!watch_count(w) || !cli_fields(w->cli, w->fields, &w->fields_count)) return CLI_USAGE;
    if (!watch_since(w, &o, &status)) return status;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if ((status = watch_place(w)) != CLI_DONE || watch_stopped) return status;
    o.fields = w->fields;
    o.fields_count = w->fields_count;
    /* Each page ends with tokens: no row of it may be left untold. */
    if (w->tokens_path && w->count) o.page_rows = 1;
    jumun_queries *q = cli_queries(w->cli, cli_replicas(w->cli));
    /* Not closed: notifications come in at any moment, and nng 1.5.2 may wait for ever in closing
     * a socket in the midst of one. The process is about to exit, and no callback is left with the
     * watch closed. */
    return q ? watch_run(w, q, &o) : CLI_USAGE;
}

int cli_watch(struct cli *cli) {
    struct watching *w = calloc(1, sizeof *w);
    int status = CLI_BAD_FILE;
    if (!w) return CLI_NO_ANSWER;
    w->cli = cli;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->tokens_path = args_value(&cli->args, "tokens");
    int lock = w->tokens_path ? rows_state_lock(cli, w->tokens_path) : -1;
    if (!w->tokens_path || lock >= 0) status = watch_begin(w);
    if (lock >= 0) rows_state_unlock(w->tokens_path, lock);
    free(w);
    return status;
}
