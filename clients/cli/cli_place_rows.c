/* jumun place: all orders of a file. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli_place.h"
#include "clients/cli/order_input.h"
#include "clients/cli/progress.h"
#include "clients/cli/text.h"

enum { PLACE_IN_FLIGHT_MAX = 4096, PLACE_ERRORS_SHOWN = 20, PLACE_CODES_MAX = 1100 };

/* An order on its way. */
struct place_slot {
    struct place_run *run;
    jumun_key key;
    uint64_t line;                                /* of the file, where its row begins */
    bool answered;                                /* under the run's lock, and so is what follows */
    int code;
    char detail[96];                              /* what more the answer said */
};

struct place_run {
    struct cli *cli;
    const char *name;                             /* of the file; borrowed */
    struct progress progress;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t answered, done, repeated;            /* under the lock, as the two tables */
    uint64_t unknown;                             /* no answer in time: may be placed */
    uint64_t by_code[PLACE_CODES_MAX];
    char detail_of_code[PLACE_CODES_MAX][96];
    uint64_t sent, settled, bad, refused;         /* the main thread's */
    json_t *refusals;                             /* --json: those that are named; else NULL */
    /* Order n, of those in [settled, sent), is in slot n % PLACE_IN_FLIGHT_MAX. */
    struct place_slot slots[PLACE_IN_FLIGHT_MAX];
};

static void place_answered(void *arg, const jumun_result *r, const void *value, size_t bytes) {
    struct place_slot *slot = arg;
    struct place_run *run = slot->run;
    (void)value, (void)bytes;
    pthread_mutex_lock(&run->lock);
    unsigned code = r->code >= 0 && r->code < PLACE_CODES_MAX ? (unsigned)r->code
                                                              : PLACE_CODES_MAX - 1;
    bool says_more = strcmp(r->detail, jumun_result_text(r->code)) != 0;
    slot->detail[0] = 0;
    if (says_more) text_printable(slot->detail, sizeof slot->detail, r->detail, strlen(r->detail));
    if (run->by_code[code]++ == 0) {
        memcpy(run->detail_of_code[code], slot->detail, sizeof slot->detail);
    }
    run->done += r->code == JUMUN_OK;
    run->unknown += r->code == JUMUN_OUTCOME_UNKNOWN;
    run->repeated += r->repeated;
    run->answered++;
    slot->answered = true;
    slot->code = r->code;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static void place_progress(struct place_run *run, double share, bool last) {
    char note[128] = "", *at = note;
    size_t left = sizeof note;
    pthread_mutex_lock(&run->lock);
    uint64_t done = run->done, unknown = run->unknown, rows = run->answered + run->bad;
    uint64_t refused = run->answered - done - unknown;
    pthread_mutex_unlock(&run->lock);
    const struct { uint64_t count; const char *what; } sums[] = {
        {done, "placed"}, {refused, "refused"}, {unknown, "unknown"}, {run->bad, "unreadable"}};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        if (i > 0 && sums[i].count == 0) continue;
        int n = snprintf(at, left, "%s%" PRIu64 " %s", i ? ", " : "", sums[i].count, sums[i].what);
        at += n, left -= (size_t)n;
    }
    if (last) progress_end(&run->progress, share, rows, note);
    else progress_update(&run->progress, share, rows, note);
}

static void place_tell(struct place_run *run, const char *sentence) {
    if (run->progress.terminal) fputs("\r\x1b[K", stderr);
    cli_error(run->cli, "%s", sentence);
}

static void place_bad(struct place_run *run, const char *sentence) {
    if (run->bad++ >= PLACE_ERRORS_SHOWN) return;
    place_tell(run, sentence);
    if (run->bad == PLACE_ERRORS_SHOWN) fputs("Further bad rows are only counted.\n", stderr);
}

/* One that was sent and is not placed, as far as is known. */
static void place_refused(struct place_run *run, const struct place_slot *slot) {
    char sentence[768];
    if (run->refused++ >= PLACE_ERRORS_SHOWN) return;
    snprintf(sentence, sizeof sentence, "%.300s: line %" PRIu64 ": [%d %s] %s%s%s", run->name,
             slot->line, slot->code, jumun_result_name(slot->code), jumun_result_text(slot->code),
             slot->detail[0] ? ": " : "", slot->detail);
    place_tell(run, sentence);
    if (run->refused == PLACE_ERRORS_SHOWN) fputs("Further refusals are only counted.\n", stderr);
    if (!run->refusals) return;
    const char *detail = slot->detail[0] ? slot->detail : jumun_result_text(slot->code);
    json_array_append_new(run->refusals,
                          json_pack("{s:I, s:i, s:s, s:s}", "line", (json_int_t)slot->line, "code",
                                    slot->code, "name", jumun_result_name(slot->code), "detail",
                                    detail));
}

/* Settles what is answered, by the order of rows: names those that were refused; --quiet prints the
 * keys of what was placed. */
static void place_settle(struct place_run *run) {
    bool tell = run->cli->quiet && !run->cli->json;
    uint64_t end = run->settled;
    pthread_mutex_lock(&run->lock);
    while (end < run->sent && run->slots[end % PLACE_IN_FLIGHT_MAX].answered) end++;
    pthread_mutex_unlock(&run->lock);
    for (; run->settled < end; run->settled++) {
        const struct place_slot *slot = &run->slots[run->settled % PLACE_IN_FLIGHT_MAX];
        char key[JUMUN_KEY_TEXT_BYTES];
        jumun_key_format(&slot->key, key);
        if (slot->code != JUMUN_OK) place_refused(run, slot);
        else if (tell) puts(key);
    }
}

/* Waits until fewer than `limit` orders are in flight; keeps the bar moving meanwhile. */
static void place_wait(struct place_run *run, uint64_t limit, double share) {
    for (;;) {
        place_settle(run);
        place_progress(run, share, false);
        if (run->sent - run->settled < limit) return;
        pthread_mutex_lock(&run->lock);
        if (!run->slots[run->settled % PLACE_IN_FLIGHT_MAX].answered) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 50000000;
            if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
            pthread_cond_timedwait(&run->changed, &run->lock, &until);
        }
        pthread_mutex_unlock(&run->lock);
    }
}

static void place_one(struct place_run *run, const struct order_input *order, uint64_t line,
                      double share) {
    jumun_command c = {.kind = JUMUN_PLACE, .place = order->place};
    c.order = order->has_key ? order->key : jumun_key_new();
    place_wait(run, PLACE_IN_FLIGHT_MAX, share);
    struct place_slot *slot = &run->slots[run->sent % PLACE_IN_FLIGHT_MAX];
    *slot = (struct place_slot){.run = run, .key = c.order, .line = line};
    run->sent++;
    int code;
    while ((code = jumun_submit(run->cli->client, &c, place_answered, slot)) == JUMUN_QUEUE_FULL) {
        usleep(1000);
    }
    if (code == JUMUN_OK) return;
    jumun_result r = {.code = code};
    place_answered(slot, &r, NULL, 0);
}

/* False after the sentence was told: then nothing of the file can be used. */
static bool place_heading(struct place_run *run, struct input *in, struct order_columns *columns) {
    struct order_fault fault;
    char sentence[768];
    enum input_result got = input_csv_row(in, sentence, sizeof sentence);
    if (got == INPUT_ROW) {
        if (order_columns_read(columns, in->fields, in->fields_count, &fault)) return true;
        order_fault_told(&fault, in->name, in->line, sentence, sizeof sentence);
    } else if (got == INPUT_END) {
        snprintf(sentence, sizeof sentence, "%.300s: is empty", in->name);
    }
    cli_error(run->cli, "%s", sentence);
    return false;
}

/* Reads all orders of the file; `columns` is NULL for JSON. */
static void place_rows(struct place_run *run, struct input *in,
                       const struct order_columns *columns, bool dry) {
    struct order_input order;
    struct order_fault fault;
    char sentence[768];
    order_input_init(&order);
    for (;;) {
        enum input_result got = columns ? input_csv_row(in, sentence, sizeof sentence)
                                        : input_text_line(in, sentence, sizeof sentence);
        if (got == INPUT_END) break;
        if (got == INPUT_ROW) {
            bool good = columns
                ? order_input_csv(&order, columns, in->fields, in->fields_count, &fault)
                : order_input_json(&order, in->row, in->row_used, &fault);
            if (good && dry) run->sent++;
            else if (good) place_one(run, &order, in->line, input_share(in));
            if (good) continue;
            order_fault_told(&fault, in->name, in->line, sentence, sizeof sentence);
        }
        place_bad(run, sentence);
        if (in->failed) break;
    }
    order_input_fini(&order);
}

static int place_report(struct place_run *run) {
    struct cli *cli = run->cli;
    int status = CLI_DONE;
    char count[TEXT_BYTES];
    for (int code = 1; code < PLACE_CODES_MAX; code++) {
        if (run->by_code[code] == 0) continue;
        int exit_status = cli_exit_of(code);
        if (exit_status > status) status = exit_status;
    }
    if (run->bad) status = CLI_BAD_FILE;
    if (cli->json) {
        json_t *codes = json_object();
        for (int code = 0; code < PLACE_CODES_MAX; code++) {
            if (run->by_code[code] == 0) continue;
            json_object_set_new(codes, jumun_result_name(code),
                                json_integer((json_int_t)run->by_code[code]));
        }
        cli_print_json(json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "rows",
                                 (json_int_t)(run->sent + run->bad), "placed",
                                 (json_int_t)run->done, "repeated", (json_int_t)run->repeated,
                                 "bad_rows", (json_int_t)run->bad, "results", codes, "refusals",
                                 json_incref(run->refusals)));
        return status;
    }
    if (!cli->quiet) {
        printf("%s%s%s order%s placed", CLI_STYLE(cli, "1"), text_count(count, run->done),
               CLI_PLAIN(cli), text_plural(run->done));
        if (run->repeated) printf(" (%" PRIu64 " of them before)", run->repeated);
        fputc('\n', stdout);
    }
    for (int code = 1; code < PLACE_CODES_MAX; code++) {
        if (run->by_code[code] == 0) continue;
        fprintf(stderr, "%10s  [%d %s] %s%s%s\n", text_count(count, run->by_code[code]), code,
                jumun_result_name(code), jumun_result_text(code),
                run->detail_of_code[code][0] ? ": " : "", run->detail_of_code[code]);
    }
    if (run->bad) {
        fprintf(stderr, "%10s  row%s that cannot be read\n", text_count(count, run->bad),
                text_plural(run->bad));
    }
    return status;
}

int cli_place_rows(struct cli *cli, const char *path, bool csv) {
    struct input in;
    char error[512];
    bool dry = args_flag(&cli->args, "dry-run");
    if (!input_open(&in, path, error, sizeof error)) {
        cli_error(cli, "%s", error);
        return CLI_BAD_FILE;
    }
    struct place_run *run = calloc(1, sizeof *run);
    int status = CLI_USAGE;
    if (run && (dry || cli_client(cli))) {
        run->cli = cli;
        run->name = in.name;
        run->refusals = cli->json ? json_array() : NULL;
        pthread_mutex_init(&run->lock, NULL);
        pthread_cond_init(&run->changed, NULL);
        progress_start(&run->progress, cli->quiet || dry ? NULL : stderr, "placing", "rows",
                       cli->color_errors);
        struct order_columns columns;
        bool usable = !csv || place_heading(run, &in, &columns);
        if (usable) place_rows(run, &in, csv ? &columns : NULL, dry);
        if (!usable) {
            status = CLI_BAD_FILE;
        } else if (dry) {
            char count[TEXT_BYTES];
            if (cli->json) {
                cli_print_json(json_pack("{s:I, s:I}", "would_place", (json_int_t)run->sent,
                                         "bad_rows", (json_int_t)run->bad));
            } else if (!cli->quiet) {
                printf("%s order%s would be placed, %" PRIu64 " bad row%s\n",
                       text_count(count, run->sent), text_plural(run->sent), run->bad,
                       text_plural(run->bad));
            }
            status = run->bad ? CLI_BAD_FILE : CLI_DONE;
        } else {
            place_wait(run, 1, input_share(&in));
            place_progress(run, 1, true);
            status = place_report(run);
        }
        /* Closing waits for the last callback to return: only then may its run go. */
        if (cli->client) jumun_close(cli->client);
        cli->client = NULL;
        pthread_cond_destroy(&run->changed);
        pthread_mutex_destroy(&run->lock);
    }
    if (run) json_decref(run->refusals);
    free(run);
    input_close(&in);
    return status;
}
