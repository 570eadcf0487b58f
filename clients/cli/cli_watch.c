/* jumun watch: changes as they happen. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/cli_rows.h"
#include "clients/cli/output.h"
#include "clients/cli/text.h"

struct watching {
    struct cli *cli;
    const char *fields[CLI_FIELDS_MAX];
    uint32_t fields_count;
    const char *tokens_path;
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

/* A thread of the library. What was printed is out before the tokens say so. */
static bool watch_change(void *arg, const jumun_change *change) {
    struct watching *w = arg;
    watch_print(w, change);
    bool ok = fflush(stdout) == 0;
    if (ok && change->tokens && w->tokens_path) {
        memcpy(w->state.tokens, change->tokens, change->tokens_count * sizeof *change->tokens);
        w->state.tokens_count = change->tokens_count;
        ok = rows_state_save(w->tokens_path, &w->state);
    }
    pthread_mutex_lock(&w->lock);
    w->told++;
    w->failed |= !ok;
    w->over = w->failed || (w->count && w->told >= w->count);
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

static bool watch_since(struct watching *w, jumun_watch_options *o) {
    const char *since = args_value(&w->cli->args, "since");
    bool exists = false;
    if (since) {
        o->has_since = cli_tokens_parse(since, w->state.tokens, &w->state.tokens_count);
        if (!o->has_since) {
            cli_usage(w->cli, "--since: \"%.60s\" is not of the form 0:17,1:4", since);
            return false;
        }
    } else if (w->tokens_path) {
        o->has_since = rows_state_load(w->tokens_path, &w->state, &exists);
        if (!o->has_since && exists) {
            cli_error(w->cli, "%s: it does not hold tokens", w->tokens_path);
            return false;
        }
        if (exists && rows_state_is_unfinished(w->cli, w->tokens_path, &w->state)) return false;
    }
    o->since = w->state.tokens;
    o->since_count = w->state.tokens_count;
    return true;
}

/* The reason why there can be no watch; CLI_DONE: none is seen. Tells what the replica lacks. */
static int watch_can_be(struct watching *w, jumun_queries *q) {
    const jumun_query query = {.kind = JUMUN_CHANGES, .subject = cli_word(w->cli, 0)};
    jumun_answer *a;
    int code = jumun_query_run(q, &query, &a);
    int status = code == JUMUN_OK ? CLI_DONE : cli_query_failed(w->cli, code, a);
    if (code == JUMUN_OK) cli_query_caveats(w->cli, &query.demand, a);
    jumun_answer_free(a);
    return status;
}

static int watch_run(struct watching *w, jumun_queries *q, const jumun_watch_options *o) {
    char error[256] = "";
    struct sigaction action = {.sa_handler = watch_on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    jumun_watch *watch = jumun_watch_open(q, cli_word(w->cli, 0), o, watch_change, w, error,
                                          sizeof error);
    if (!watch) return cli_usage(w->cli, "%s", error);
    int status = watch_can_be(w, q);
    if (status == CLI_DONE && !jumun_watch_await(watch, w->cli->timeout_ms))
        status = cli_query_failed(w->cli, JUMUN_NOT_SENT, NULL);
    if (status != CLI_DONE) {
        jumun_watch_close(watch);
        return status;
    }
    if (!w->cli->quiet && !w->cli->json)
        fprintf(stderr, "watching %s (Ctrl-C ends)\n", cli_word(w->cli, 0));
    watch_until_over(w);
    jumun_watch_close(watch);
    if (output_reader_gone()) return OUTPUT_READER_GONE;
    if (!w->failed || ferror(stdout)) return CLI_DONE; /* cli_main() tells of a full disk */
    cli_error(w->cli, "%s: cannot be written", w->tokens_path);
    return CLI_BAD_FILE;
}

int cli_watch(struct cli *cli) {
    struct watching *w = calloc(1, sizeof *w);
    jumun_watch_options o = {0};
    int status = CLI_USAGE;
    if (!w) return CLI_NO_ANSWER;
    w->cli = cli;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->tokens_path = args_value(&cli->args, "tokens");
    int lock = w->tokens_path ? rows_state_lock(cli, w->tokens_path) : -1;
    if (w->tokens_path && lock < 0) {
        status = CLI_BAD_FILE;
    } else if (cli_int_option(cli, "count", &w->count) &&
               cli_fields(cli, w->fields, &w->fields_count) && watch_since(w, &o)) {
        o.fields = w->fields;
        o.fields_count = w->fields_count;
        jumun_queries *q = cli_queries(cli, cli_replicas(cli));
        /* Not closed: notifications come in at any moment, and nng 1.5.2 may wait for ever in
         * closing a socket in the midst of one. The process is about to exit, and no callback is
         * left with the watch closed. */
        if (q) status = watch_run(w, q, &o);
    }
    if (lock >= 0) rows_state_unlock(w->tokens_path, lock);
    free(w);
    return status;
}
