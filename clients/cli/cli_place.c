/* jumun place: one order from flags or JSON, many from a file. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli.h"
#include "clients/cli/names.h"
#include "clients/cli/order_input.h"
#include "clients/cli/progress.h"
#include "clients/cli/text.h"

enum { PLACE_IN_FLIGHT_MAX = 4096, PLACE_ERRORS_SHOWN = 10, PLACE_CODES_MAX = 1100 };

static int cli_place_send(struct cli *cli, struct order_input *order) {
    jumun_command c = {.kind = JUMUN_PLACE, .order = order->key, .place = order->place};
    if (!cli_write_values(cli, &c.options)) return CLI_USAGE;
    const char *key = args_value(&cli->args, "key");
    if (key && !cli_key(cli, key, &c.order)) return CLI_USAGE;
    if (!key && !order->has_key) {
        if (args_value(&cli->args, "id")) {
            return cli_usage(cli, "--id needs --key: an order remembers its ids, and without a key "
                                  "a repeat would be another order");
        }
        c.order = jumun_key_new();
    }
    if (args_flag(&cli->args, "dry-run")) {
        char money[TEXT_BYTES];
        if (cli->json) {
            cli_print_json(json_pack("{s:i, s:i, s:s, s:s, s:I}", "would_place", 1, "lines",
                                     (int)c.place.lines_count, "store", c.place.store, "currency",
                                     c.place.currency, "total", (json_int_t)c.place.total));
        } else if (!cli->quiet) {
            printf("would place %u %s at %s for %s\n", c.place.lines_count,
                   c.place.lines_count == 1 ? "line" : "lines", c.place.store,
                   text_money(money, c.place.total, c.place.currency));
        }
        return CLI_DONE;
    }
    return cli_send(cli, &c);
}

static bool cli_place_texts(struct cli *cli, jumun_place *p) {
    p->store = args_value(&cli->args, "store");
    p->currency = args_value(&cli->args, "currency");
    p->customer = args_value(&cli->args, "customer");
    p->group = args_value(&cli->args, "group");
    p->external_ref = args_value(&cli->args, "external-ref");
    const char *fulfilment = args_value(&cli->args, "fulfilment");
    const char *timing = args_value(&cli->args, "payment-timing");
    if (fulfilment) p->fulfilment = (jumun_fulfilment)names_parse(NAMES_FULFILMENT, fulfilment);
    if (timing) p->payment_timing = (jumun_payment_timing)names_parse(NAMES_TIMING, timing);
    if (!p->fulfilment || (timing && !p->payment_timing)) {
        const char *bad = !p->fulfilment ? fulfilment : timing;
        cli_usage(cli, "\"%.40s\" is not one of %s", bad,
                  names_all(!p->fulfilment ? NAMES_FULFILMENT : NAMES_TIMING));
        return false;
    }
    return true;
}

static int cli_place_flags(struct cli *cli, struct order_input *order) {
    char error[256], *spec;
    jumun_place *p = &order->place;
    for (size_t cursor = 0; (spec = args_next(&cli->args, "line", &cursor));) {
        if (!order_input_add_line(order, spec, error, sizeof error)) {
            return cli_usage(cli, "%s", error);
        }
    }
    const char *attributes = args_value(&cli->args, "attributes");
    if (attributes && !order_input_attributes(order, attributes, error, sizeof error)) {
        return cli_usage(cli, "%s", error);
    }
    order->has_total = args_value(&cli->args, "total") != NULL;
    if (!cli_place_texts(cli, p) || !cli_int_option(cli, "fees", &p->fees) ||
        !cli_int_option(cli, "discounts", &p->discounts) ||
        !cli_int_option(cli, "total", &p->total) ||
        !cli_span_option(cli, "payment-timeout", &p->payment_timeout_ms) ||
        !cli_span_option(cli, "acceptance-timeout", &p->acceptance_timeout_ms) ||
        !cli_span_option(cli, "auto-complete", &p->auto_complete_ms)) {
        return CLI_USAGE;
    }
    if (!order_input_finish(order, error, sizeof error)) return cli_usage(cli, "%s", error);
    return cli_place_send(cli, order);
}

static int cli_place_json(struct cli *cli, struct order_input *order, const char *path) {
    struct input in;
    char error[512];
    if (!input_open(&in, path, error, sizeof error)) {
        cli_error(cli, "%s", error);
        return CLI_BAD_FILE;
    }
    int status = CLI_BAD_FILE;
    enum input_result got = input_rest(&in, error, sizeof error);
    if (got == INPUT_END) {
        cli_error(cli, "%s: is empty", in.name);
    } else if (got == INPUT_BAD) {
        cli_error(cli, "%s", error);
    } else if (!order_input_json(order, in.row, in.row_used, error, sizeof error)) {
        cli_error(cli, "%s: %s", in.name, error);
    } else {
        status = cli_place_send(cli, order);
    }
    input_close(&in);
    return status;
}

static int cli_place_files(struct cli *cli, const char *path, bool csv);

int cli_place(struct cli *cli) {
    const char *json = args_value(&cli->args, "from-json"), *csv = args_value(&cli->args, "csv");
    const char *jsonl = args_value(&cli->args, "jsonl");
    if (!!json + !!csv + !!jsonl > 1) {
        return cli_usage(cli, "only one of --from-json, --csv and --jsonl can be given");
    }
    if (csv || jsonl) {
        if (cli->encode) return cli_usage(cli, "only single orders can be encoded");
        return cli_place_files(cli, csv ? csv : jsonl, csv != NULL);
    }
    struct order_input order;
    order_input_init(&order);
    int status = json ? cli_place_json(cli, &order, json) : cli_place_flags(cli, &order);
    order_input_fini(&order);
    return status;
}

/* -- many orders from a file ------------------------------------------------------------------- */

/* An order on its way. */
struct place_slot {
    struct place_run *run;
    jumun_key key;
    bool answered, done;                          /* under the run's lock */
};

struct place_run {
    struct cli *cli;
    struct progress progress;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t answered, done, repeated;            /* under the lock, as the two tables */
    uint64_t by_code[PLACE_CODES_MAX];
    char detail_of_code[PLACE_CODES_MAX][96];
    uint64_t sent, settled, bad;                  /* the main thread's */
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
    if (run->by_code[code]++ == 0 && says_more) {
        text_printable(run->detail_of_code[code], sizeof run->detail_of_code[code], r->detail,
                       strlen(r->detail));
    }
    run->done += r->code == JUMUN_OK;
    run->repeated += r->repeated;
    run->answered++;
    slot->answered = true;
    slot->done = r->code == JUMUN_OK;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static void place_progress(struct place_run *run, double share, bool last) {
    char note[96] = "";
    pthread_mutex_lock(&run->lock);
    uint64_t answered = run->answered, refused = run->answered - run->done;
    pthread_mutex_unlock(&run->lock);
    if (refused || run->bad) {
        snprintf(note, sizeof note, "%" PRIu64 " not placed", refused + run->bad);
    }
    if (last) progress_end(&run->progress, share, answered, note);
    else progress_update(&run->progress, share, answered, note);
}

/* Settles what is answered, by the order of rows; --quiet prints the keys of what was placed. */
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
        if (tell && slot->done) puts(key);
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

static void place_one(struct place_run *run, const struct order_input *order, double share) {
    jumun_command c = {.kind = JUMUN_PLACE, .place = order->place};
    c.order = order->has_key ? order->key : jumun_key_new();
    place_wait(run, PLACE_IN_FLIGHT_MAX, share);
    struct place_slot *slot = &run->slots[run->sent % PLACE_IN_FLIGHT_MAX];
    *slot = (struct place_slot){.run = run, .key = c.order};
    run->sent++;
    int code;
    while ((code = jumun_submit(run->cli->client, &c, place_answered, slot)) == JUMUN_QUEUE_FULL) {
        usleep(1000);
    }
    if (code == JUMUN_OK) return;
    jumun_result r = {.code = code};
    place_answered(slot, &r, NULL, 0);
}

static void place_bad(struct place_run *run, const char *sentence) {
    if (run->bad++ >= PLACE_ERRORS_SHOWN) return;
    if (run->progress.terminal) fputs("\r\x1b[K", stderr);
    cli_error(run->cli, "%s", sentence);
    if (run->bad == PLACE_ERRORS_SHOWN) fputs("Further bad rows are only counted.\n", stderr);
}

/* Reads all orders of the file. False when not even the heading can be used. */
static bool place_rows(struct place_run *run, struct input *in, bool csv, bool dry) {
    struct order_input order;
    struct order_columns columns;
    char why[256], sentence[512];
    enum input_result got;
    order_input_init(&order);
    if (csv) {
        got = input_csv_row(in, sentence, sizeof sentence);
        if (got == INPUT_END) snprintf(sentence, sizeof sentence, "%s: is empty", in->name);
        bool usable = got == INPUT_ROW &&
                      order_columns_read(&columns, in->fields, in->fields_count, why, sizeof why);
        if (!usable) {
            if (got == INPUT_ROW) {
                snprintf(sentence, sizeof sentence, "%s: line 1: %s", in->name, why);
            }
            cli_error(run->cli, "%s", sentence);
            order_input_fini(&order);
            return false;
        }
    }
    for (;;) {
        got = csv ? input_csv_row(in, sentence, sizeof sentence)
                  : input_text_line(in, sentence, sizeof sentence);
        if (got == INPUT_END) break;
        if (got == INPUT_ROW) {
            bool good = csv ? order_input_csv(&order, &columns, in->fields, in->fields_count, why,
                                              sizeof why)
                            : order_input_json(&order, in->row, in->row_used, why, sizeof why);
            if (good && dry) run->sent++;
            else if (good) place_one(run, &order, input_share(in));
            if (good) continue;
            snprintf(sentence, sizeof sentence, "%s: line %" PRIu64 ": %s", in->name, in->line,
                     why);
        }
        place_bad(run, sentence);
        if (in->failed) break;
    }
    order_input_fini(&order);
    return true;
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
        cli_print_json(json_pack("{s:I, s:I, s:I, s:o}", "placed", (json_int_t)run->done,
                                 "repeated", (json_int_t)run->repeated, "bad_rows",
                                 (json_int_t)run->bad, "results", codes));
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
        fprintf(stderr, "%10s  bad row%s\n", text_count(count, run->bad), text_plural(run->bad));
    }
    return status;
}

static int cli_place_files(struct cli *cli, const char *path, bool csv) {
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
        pthread_mutex_init(&run->lock, NULL);
        pthread_cond_init(&run->changed, NULL);
        progress_start(&run->progress, cli->quiet || dry ? NULL : stderr, "placing", "orders",
                       cli->color_errors);
        if (!place_rows(run, &in, csv, dry)) {
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
    free(run);
    input_close(&in);
    return status;
}
