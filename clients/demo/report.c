#include "clients/demo/report.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "clients/cli/value.h"

enum { REPORT_STORES = 5, REPORT_COUNTRIES_MAX = 256 };

struct report {
    const struct play *play;
    const struct retail *retail;
    const struct report_options *options;
    void *bytes;                   /* the status answer */
    msgpack_unpacked unpacked;
    const msgpack_object *status;  /* NULL = the node did not answer */
};

static const uint32_t report_percentiles[] = {50000, 90000, 99000, 99900};
static const char *const report_percentile_names[] = {"p50", "p90", "p99", "p99.9"};

static const char *report_kind_name(int kind) {
    static const char *const names[] = {
        [JUMUN_PLACE] = "place", [JUMUN_PAY] = "pay", [JUMUN_ACCEPT] = "accept",
        [JUMUN_REJECT] = "reject", [JUMUN_MARK_READY] = "ready", [JUMUN_PICK_UP] = "pick_up",
        [JUMUN_DELIVER] = "deliver", [JUMUN_COMPLETE] = "complete", [JUMUN_CANCEL] = "cancel",
        [JUMUN_REFUND] = "refund"};
    bool known = kind >= 0 && kind < (int)(sizeof names / sizeof *names) && names[kind];
    return known ? names[kind] : "?";
}

static bool report_call(jumun_client *client, const jumun_command *command, void **bytes,
                        msgpack_unpacked *unpacked) {
    jumun_result result;
    size_t size = 0, offset = 0;
    *bytes = NULL;
    msgpack_unpacked_init(unpacked);
    if (jumun_call(client, command, &result, bytes, &size) == JUMUN_OK && *bytes &&
        msgpack_unpack_next(unpacked, *bytes, size, &offset) == MSGPACK_UNPACK_SUCCESS) {
        return true;
    }
    msgpack_unpacked_destroy(unpacked);
    free(*bytes);
    *bytes = NULL;
    return false;
}

static uint64_t report_sum(const struct report *r, const char *field) {
    const msgpack_object *shards = value_at(r->status, "shards");
    uint64_t sum = 0;
    for (uint32_t i = 0; i < value_count(shards); i++) {
        int64_t n = value_int(value_item(shards, i), field, 0);
        sum += n > 0 ? (uint64_t)n : 0;
    }
    return sum;
}

static uint64_t report_status_uint(const struct report *r, const char *field) {
    int64_t n = value_int(r->status, field, 0);
    return n > 0 ? (uint64_t)n : 0;
}

static void report_title(const struct report *r, const char *title) {
    printf(r->options->color ? "\n\x1b[1m%s\x1b[0m\n" : "\n%s\n", title);
}

static void report_data(const struct report *r) {
    const struct plan *plan = r->play->plan;
    char count[TEXT_BYTES];
    static const char *const told[] = {
        "placed, paid, accepted, packed, shipped, delivered, completed as far as the year goes",
        "cancelled in part or as a whole, and refunded",
        NULL,
        "sent to a new key: held for a place that never comes",
        "placed as they stand, with negative quantities",
        "placed as they stand, with negative amounts"};
    char from[TEXT_BYTES], to[TEXT_BYTES], title[160];
    text_time(from, r->retail->count ? r->retail->invoices[0].placed_ms : 0);
    text_time(to, plan->end_ms);
    snprintf(title, sizeof title, "%s invoices from %.10s to %.10s, and what became of them",
             text_count(count, r->retail->count), from, to);
    report_title(r, title);
    struct table *t = table_new("rll", r->options->color);
    for (int o = 0; o < PLAN_ORIGINS; o++) {
        if (plan->invoices_by_origin[o] == 0 || !told[o]) continue;
        table_cell(t, "1", "%s", text_count(count, plan->invoices_by_origin[o]));
        table_cell(t, NULL, "%s", plan_origin_name(o));
        table_cell(t, "2", "%s", told[o]);
    }
    table_print(t, stdout, 2);
    table_delete(t);
    if (plan->lines_unmatched) {
        printf("  %s lines of cancels match nothing that is left of their sale: sent as they are\n",
               text_count(count, plan->lines_unmatched));
    }
}

static void report_speed(const struct report *r) {
    const struct play *p = r->play;
    char text[TEXT_BYTES], rate[TEXT_BYTES];
    uint64_t max = p->latency.max_ns;
    report_title(r, "Commands");
    printf("  %s answered in %.2f s: ", text_count(text, p->answered), p->seconds);
    double per_second = p->seconds > 0 ? (double)p->answered / p->seconds : 0;
    printf(r->options->color ? "\x1b[1m%s/s\x1b[0m" : "%s/s",
           text_count(rate, (uint64_t)per_second));
    printf(", each durable before its answer, up to %s at a time\n",
           text_count(text, p->in_flight_max));
    printf("  round trip ");
    for (size_t i = 0; i < 4; i++) {
        uint64_t ns = histogram_percentile_ns(&p->latency, report_percentiles[i]);
        printf(" %s %s  ", report_percentile_names[i], text_latency(text, (double)ns));
    }
    printf(" max %s\n", text_latency(text, (double)max));
    if (p->skipped) {
        printf("  %s steps left out: their order was refused\n", text_count(text, p->skipped));
    }
}

static void report_verify(const struct report *r) {
    const struct verify *v = r->options->verify;
    char text[TEXT_BYTES];
    if (!v) return;
    report_title(r, "Read back");
    printf("  %s keys read, ", text_count(text, v->keys));
    printf("%s orders behind them (the other places were refused)", text_count(text, v->orders));
    if (v->behind + v->ahead + v->unread == 0) {
        puts(": each at the version that was acknowledged last");
    } else {
        printf(": %s are OLDER than acknowledged", text_count(text, v->behind));
        printf(", %s are newer", text_count(text, v->ahead));
        printf(", %s have no answer\n", text_count(text, v->unread));
    }
    printf("  longest pause between two acknowledgements:");
    for (uint32_t s = 0; s < PLAY_SHARDS; s++) {
        if (r->play->pause_ns[s] == 0) continue;
        printf("  shard %u %s", s, text_latency(text, (double)r->play->pause_ns[s]));
    }
    puts("");
}

static void report_states(const struct report *r) {
    static const char *const states[] = {"awaited", "placed", "paid", "accepted", "ready",
                                         "picked_up", "delivered", "completed", "rejected",
                                         "cancelled", "expired"};
    report_title(r, "Orders by state");
    struct table *t = table_new("lrl", r->options->color);
    uint64_t counts[11], most = 1;
    for (int s = 0; s < 11; s++) {
        char field[64];
        snprintf(field, sizeof field, "orders_by_state.%s", states[s]);
        counts[s] = report_sum(r, field);
        if (counts[s] > most) most = counts[s];
    }
    for (int s = 0; s < 11; s++) {
        char count[TEXT_BYTES], bar[33] = "";
        if (counts[s] == 0) continue;
        memset(bar, '=', counts[s] * 32 / most);
        table_cell(t, NULL, "%s", states[s]);
        table_cell(t, "1", "%s", text_count(count, counts[s]));
        table_cell(t, s >= 8 ? "31" : s >= 6 ? "32" : "36", "%s", *bar ? bar : "-");
    }
    table_print(t, stdout, 2);
    table_delete(t);
}

/* All answers but "done", by what was asked and for which invoices. */
static void report_refusals(const struct report *r) {
    struct table *t = table_new("rllll", r->options->color);
    bool any = false;
    table_heading(t);
    static const char *const heads[] = {"answers", "command", "of", "code", "sentence"};
    for (int i = 0; i < 5; i++) table_cell(t, NULL, "%s", heads[i]);
    for (int o = 0; o < PLAN_ORIGINS; o++) {
        for (int k = 0; k < PLAY_KINDS; k++) {
            for (int c = 1; c < PLAY_CODES; c++) {
                char count[TEXT_BYTES];
                if (r->play->counts[o][k][c] == 0) continue;
                any = true;
                table_cell(t, NULL, "%s", text_count(count, r->play->counts[o][k][c]));
                table_cell(t, NULL, "%s", report_kind_name(k));
                table_cell(t, "2", "%s", plan_origin_name(o));
                table_cell(t, c == JUMUN_HELD ? "33" : "31", "%d %s", c, jumun_result_name(c));
                table_cell(t, NULL, "%s", jumun_result_text(c));
            }
        }
    }
    if (any) {
        report_title(r, "The disorder of the data, and what the engine answers");
        table_print(t, stdout, 2);
    }
    table_delete(t);
}

static void report_machine(const struct report *r) {
    char a[TEXT_BYTES], b[TEXT_BYTES], c[TEXT_BYTES];
    uint64_t orders = report_sum(r, "orders_in_memory"), actors = report_sum(r, "actor_bytes");
    char title[320], endpoint_text[256];
    const char *endpoint = r->options->endpoint;
    if (strchr(endpoint, ',')) {
        int64_t node = value_int(r->status, "node_id", 0);
        value_text(r->status, "endpoint", endpoint_text, sizeof endpoint_text);
        snprintf(title, sizeof title, "Memory and disk of node %" PRId64 ", %s", node,
                 endpoint_text);
    } else {
        snprintf(title, sizeof title, "Memory and disk of the node");
    }
    report_title(r, title);
    printf("  memory  process %s; %s orders in memory take %s",
           text_size(a, report_status_uint(r, "memory.process_bytes")), text_count(b, orders),
           text_size(c, actors));
    if (orders) printf(" (%" PRIu64 " bytes each)", actors / orders);
    printf("\n  disk    %s: ", text_size(a, report_status_uint(r, "disk.used_bytes")));
    printf("log %s, state %s; free %s\n", text_size(a, report_sum(r, "log_bytes")),
           text_size(b, report_sum(r, "state_bytes")),
           text_size(c, report_status_uint(r, "disk.free_bytes")));
}

/* -- stores ------------------------------------------------------------------------------------ */

struct report_store { const char *country; uint32_t sales; int64_t open, placed; bool known; };

static int report_by_sales(const void *a, const void *b) {
    const struct report_store *x = a, *y = b;
    return x->sales < y->sales ? 1 : x->sales > y->sales ? -1 : strcmp(x->country, y->country);
}

/* The countries with most sales and what their stores say; returns how many. */
static uint32_t report_find_stores(const struct report *r, struct report_store *out) {
    static struct report_store all[REPORT_COUNTRIES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->retail->count; i++) {
        const struct retail_invoice *invoice = &r->retail->invoices[i];
        if (invoice->kind != RETAIL_SALE) continue;
        uint32_t at = 0;
        while (at < count && strcmp(all[at].country, invoice->country) != 0) at++;
        if (at == REPORT_COUNTRIES_MAX) continue;
        if (at == count) all[count++] = (struct report_store){.country = invoice->country};
        all[at].sales++;
    }
    qsort(all, count, sizeof *all, report_by_sales);
    if (count > REPORT_STORES) count = REPORT_STORES;
    for (uint32_t i = 0; i < count; i++) {
        char id[64];
        void *bytes;
        msgpack_unpacked unpacked;
        plan_store_id(all[i].country, id, sizeof id);
        jumun_command c = {.kind = JUMUN_STORE_GET, .store_id = id};
        all[i].known = report_call(r->play->client, &c, &bytes, &unpacked);
        if (all[i].known) {
            all[i].open = value_int(&unpacked.data, "open_orders", 0);
            all[i].placed = value_int(&unpacked.data, "placed_orders", 0);
            msgpack_unpacked_destroy(&unpacked);
            free(bytes);
        }
        out[i] = all[i];
    }
    return count;
}

static void report_stores(const struct report *r) {
    struct report_store stores[REPORT_STORES];
    uint32_t count = report_find_stores(r, stores);
    if (count == 0) return;
    report_title(r, "Stores (each counts its open orders from messages of all shards)");
    struct table *t = table_new("lrr", r->options->color);
    table_heading(t);
    table_cell(t, NULL, "store");
    table_cell(t, NULL, "open orders");
    table_cell(t, NULL, "placed");
    for (uint32_t i = 0; i < count; i++) {
        char id[64];
        plan_store_id(stores[i].country, id, sizeof id);
        table_cell(t, NULL, "%s", id);
        if (stores[i].known) {
            table_cell(t, "1", "%" PRId64, stores[i].open);
            table_cell(t, NULL, "%" PRId64, stores[i].placed);
        }
        table_row_end(t);
    }
    table_print(t, stdout, 2);
    table_delete(t);
}

/* An order worth looking at: some lines, a partial return, delivered or further. */
static const struct plan_order *report_sample(const struct report *r) {
    const struct plan *plan = r->play->plan;
    const struct plan_order *sample = NULL;
    for (uint32_t i = 0; i < plan->orders_count; i++) {
        const struct plan_order *o = &plan->orders[i];
        if (o->invoice->kind != RETAIL_SALE || r->play->orders[i].lost) continue;
        bool small = o->invoice->lines_count >= 3 && o->invoice->lines_count <= 8;
        if (!sample) sample = o;
        bool returned = o->cancels > 0 && o->ended_ms == INT64_MAX && o->paid && !o->rejected;
        if (small && returned) return o;
    }
    return sample;
}

static bool report_sample_key(const struct report *r, char key[JUMUN_KEY_TEXT_BYTES]) {
    const struct plan_order *sample = report_sample(r);
    if (!sample) return false;
    jumun_key_format(&r->play->orders[sample - r->play->plan->orders].key, key);
    return true;
}

/* How to call the command-line client: in a build tree it lies beside this program and is not on
 * the PATH. */
static void report_client(char *path, size_t bytes) {
    char own[PATH_MAX], beside[PATH_MAX + 16];
    ssize_t size = readlink("/proc/self/exe", own, sizeof own - 1);
    char *slash = NULL;
    if (size > 0) {
        own[size] = 0;
        slash = strrchr(own, '/');
    }
    if (slash) *slash = 0;
    slash = slash ? strrchr(own, '/') : NULL;
    if (slash) {
        *slash = 0;
        snprintf(beside, sizeof beside, "%s/cli/jumun", own);
    }
    bool built = slash && access(beside, X_OK) == 0 && strlen(beside) < bytes;
    memcpy(path, built ? beside : "jumun", built ? strlen(beside) + 1 : sizeof "jumun");
}

static void report_next(const struct report *r) {
    char key[JUMUN_KEY_TEXT_BYTES], jumun[PATH_MAX + 16];
    report_client(jumun, sizeof jumun);
    report_title(r, "Try next");
    if (strcmp(r->options->endpoint, "tcp://127.0.0.1:7400") != 0) {
        printf("  export JUMUN_ENDPOINT=%s\n", r->options->endpoint);
    }
    if (report_sample_key(r, key)) {
        printf("  %s get %s\n  %s history %s\n", jumun, key, jumun, key);
    }
    printf("  %s store get retail-united-kingdom\n"
           "  %s place --store retail-france --currency GBP --fulfilment parcel "
           "--line 85123A:6:255\n"
           "  %s status\n  %s top\n", jumun, jumun, jumun, jumun);
}

/* -- JSON -------------------------------------------------------------------------------------- */

static json_t *report_json_answers(const struct report *r) {
    json_t *answers = json_array();
    for (int o = 0; o < PLAN_ORIGINS; o++) {
        for (int k = 0; k < PLAY_KINDS; k++) {
            for (int c = 0; c < PLAY_CODES; c++) {
                if (r->play->counts[o][k][c] == 0) continue;
                json_array_append_new(answers, json_pack(
                    "{s:s, s:s, s:i, s:s, s:I}", "of", plan_origin_name(o), "command",
                    report_kind_name(k), "code", c, "name", jumun_result_name(c), "count",
                    (json_int_t)r->play->counts[o][k][c]));
            }
        }
    }
    return answers;
}

static void report_json(const struct report *r) {
    const struct play *p = r->play;
    json_t *latency = json_object();
    for (size_t i = 0; i < 4; i++) {
        uint64_t ns = histogram_percentile_ns(&p->latency, report_percentiles[i]);
        json_object_set_new(latency, report_percentile_names[i], json_real((double)ns / 1000));
    }
    json_object_set_new(latency, "max", json_real((double)p->latency.max_ns / 1000));
    json_t *invoices = json_object();
    for (int o = 0; o < PLAN_ORIGINS; o++) {
        if (o == PLAN_CANCEL_UNMATCHED) continue;
        json_object_set_new(invoices, plan_origin_name(o),
                            json_integer(p->plan->invoices_by_origin[o]));
    }
    char key[JUMUN_KEY_TEXT_BYTES] = "";
    report_sample_key(r, key);
    json_t *out = json_pack(
        "{s:o, s:I, s:I, s:I, s:f, s:f, s:o, s:o, s:s, s:o}", "invoices", invoices, "commands",
        (json_int_t)p->answered, "refused", (json_int_t)p->refused, "held", (json_int_t)p->held,
        "seconds", p->seconds, "commands_per_second",
        p->seconds > 0 ? (double)p->answered / p->seconds : 0, "latency_us", latency, "answers",
        report_json_answers(r), "sample_key", key, "status", value_to_json(r->status));
    json_t *pauses = json_object();
    for (uint32_t s = 0; s < PLAY_SHARDS; s++) {
        char shard[16];
        if (p->pause_ns[s] == 0) continue;
        snprintf(shard, sizeof shard, "%u", s);
        json_object_set_new(pauses, shard, json_real((double)p->pause_ns[s] / 1e6));
    }
    json_object_set_new(out, "pause_ms_by_shard", pauses);
    const struct verify *v = r->options->verify;
    if (v) {
        json_object_set_new(out, "read_back", json_pack(
            "{s:I, s:I, s:I, s:I}", "orders", (json_int_t)v->orders, "behind",
            (json_int_t)v->behind, "ahead", (json_int_t)v->ahead, "unread",
            (json_int_t)v->unread));
    }
    json_dumpf(out, stdout, JSON_INDENT(2));
    fputc('\n', stdout);
    json_decref(out);
}

uint64_t report_commands(jumun_client *client) {
    struct report r = {0};
    jumun_command c = {.kind = JUMUN_NODE_STATUS};
    if (!report_call(client, &c, &r.bytes, &r.unpacked)) return 0;
    r.status = &r.unpacked.data;
    uint64_t commands = report_sum(&r, "commands");
    msgpack_unpacked_destroy(&r.unpacked);
    free(r.bytes);
    return commands;
}

bool report_print(const struct play *play, const struct retail *retail,
                  const struct report_options *options) {
    struct report r = {.play = play, .retail = retail, .options = options};
    jumun_command c = {.kind = JUMUN_NODE_STATUS};
    bool answered = report_call(play->client, &c, &r.bytes, &r.unpacked);
    if (answered) r.status = &r.unpacked.data;
    if (options->json) {
        report_json(&r);
    } else {
        report_data(&r);
        report_speed(&r);
        report_verify(&r);
        if (answered) report_states(&r);
        report_refusals(&r);
        if (answered) report_stores(&r);
        if (answered) report_machine(&r);
        if (!options->no_hints) report_next(&r);
    }
    if (answered) {
        msgpack_unpacked_destroy(&r.unpacked);
        free(r.bytes);
    }
    return answered;
}
