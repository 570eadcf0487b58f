/* Orders, histories and stores, drawn for people. */
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clients/cli/cli.h"
#include "clients/cli/names.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"

enum { SHOW_TEXT_BYTES = 512 };

/* Colour of a state: green is well, yellow waits, red has failed. */
static const char *show_state_style(const char *state) {
    static const struct { const char *state, *style; } styles[] = {
        {"placed", "33"},    {"awaited", "33"},   {"paid", "36"},      {"accepted", "36"},
        {"ready", "36"},     {"picked_up", "34"}, {"delivered", "32"}, {"completed", "32"},
        {"cancelled", "31"}, {"rejected", "31"},  {"expired", "31"}};
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
        if (strcmp(styles[i].state, state) == 0) return styles[i].style;
    }
    return "0";
}

/* Field `i` of an item that is an array, or `name` of one that is a map. */
static const msgpack_object *show_field(const msgpack_object *item, uint32_t i, const char *name) {
    return item && item->type == MSGPACK_OBJECT_ARRAY ? value_item(item, i) : value_at(item, name);
}

static int64_t show_int(const msgpack_object *item, uint32_t i, const char *name) {
    return value_int(show_field(item, i, name), "", 0);
}

static bool show_state_is(const msgpack_object *order, const char *state) {
    char text[32];
    return strcmp(value_text(order, "state", text, sizeof text), state) == 0;
}

/* Money in a column whose currency stands elsewhere. */
static char *show_amount(char buffer[TEXT_BYTES], int64_t amount, const char *currency) {
    char *blank = strchr(text_money(buffer, amount, currency), ' ');
    if (blank) *blank = 0;
    return buffer;
}

static void show_lines(const struct cli *cli, const msgpack_object *order, const char *currency,
                       FILE *out) {
    const msgpack_object *lines = value_at(order, "lines");
    char sku[SHOW_TEXT_BYTES], name[SHOW_TEXT_BYTES], money[TEXT_BYTES], count[TEXT_BYTES];
    if (value_count(lines) == 0) return;
    bool named = false;
    for (uint32_t i = 0; i < value_count(lines); i++) {
        named |= *value_show(show_field(value_item(lines, i), 4, "name"), name, sizeof name) != 0;
    }
    struct table *t = table_new(named ? "rllrrrr" : "rlrrrr", cli->color);
    table_heading(t);
    static const char *const heads[] = {"#", "sku", "name", "quantity", "cancelled", "unit price",
                                        "amount"};
    for (int i = 0; i < 7; i++) {
        if (i != 2 || named) table_cell(t, NULL, "%s", heads[i]);
    }
    for (uint32_t i = 0; i < value_count(lines); i++) {
        const msgpack_object *line = value_item(lines, i);
        int64_t quantity = show_int(line, 1, "quantity"), gone = show_int(line, 2, "cancelled");
        int64_t price = show_int(line, 3, "unit_price");
        table_cell(t, "2", "%u", i);
        table_cell(t, NULL, "%s", value_show(show_field(line, 0, "sku"), sku, sizeof sku));
        value_show(show_field(line, 4, "name"), name, sizeof name);
        if (named) table_cell(t, NULL, "%s", name);
        table_cell(t, NULL, "%s", text_count(count, (uint64_t)quantity));
        if (gone) table_cell(t, "31", "%s", text_count(count, (uint64_t)gone));
        else table_cell(t, "2", "-");
        table_cell(t, NULL, "%s", show_amount(money, price, currency));
        int64_t amount = 0;
        bool fits = !__builtin_mul_overflow(quantity - gone, price, &amount);
        table_cell(t, NULL, "%s", fits ? show_amount(money, amount, currency) : "?");
    }
    table_print(t, out, 2);
    table_delete(t);
}

/* A column of amounts: `fields` that are zero are left out unless `always`, and so are all of them
 * before the place. */
static void show_money(const struct cli *cli, const msgpack_object *order, const char *currency,
                       FILE *out) {
    static const struct { const char *field, *label, *style; bool always; } rows[] = {
        {"lines_total", "lines", NULL, true},     {"fees", "fees", NULL, false},
        {"discounts", "discounts", NULL, false},  {"total", "total", "1", true},
        {"authorised", "authorised", NULL, false},{"captured", "captured", "32", true},
        {"refunded", "refunded", "33", false},    {"refund_owed", "refund owed", "31", false}};
    struct table *t = table_new("lr", cli->color);
    bool placed = value_count(value_at(order, "lines")) > 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t amount = value_int(order, rows[i].field, 0);
        char money[TEXT_BYTES];
        if (amount == 0 && (!placed || !rows[i].always)) continue;
        table_cell(t, rows[i].style, "%s", rows[i].label);
        table_cell(t, rows[i].style, "%s", text_money(money, amount, currency));
    }
    table_print(t, out, 2);
    table_delete(t);
}

static void show_payments(const struct cli *cli, const msgpack_object *order, const char *currency,
                          FILE *out) {
    const msgpack_object *payments = value_at(order, "payments");
    char text[SHOW_TEXT_BYTES], money[TEXT_BYTES];
    if (value_count(payments) == 0) return;
    fputc('\n', out);
    struct table *t = table_new("llrl", cli->color);
    table_heading(t);
    table_cell(t, NULL, "payment");
    table_cell(t, NULL, "reference");
    table_cell(t, NULL, "amount");
    table_cell(t, NULL, "state");
    for (uint32_t i = 0; i < value_count(payments); i++) {
        const msgpack_object *p = value_item(payments, i);
        table_cell(t, NULL, "%s", value_show(show_field(p, 0, "method"), text, sizeof text));
        table_cell(t, NULL, "%s", value_show(show_field(p, 1, "reference"), text, sizeof text));
        table_cell(t, NULL, "%s", text_money(money, show_int(p, 2, "amount"), currency));
        const msgpack_object *state = show_field(p, 3, "state");
        value_show(state, text, sizeof text);
        bool numbered = state && state->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
        const char *word =
            numbered ? names_word(NAMES_PAYMENT_STATE, (int)value_int(state, "", 0)) : text;
        table_cell(t, strcmp(word, "captured") == 0 ? "32" : strcmp(word, "failed") == 0 ? "31"
                                                                                        : "33",
                   "%s", word);
    }
    table_print(t, out, 2);
    table_delete(t);
}

static void show_deadlines(const struct cli *cli, const msgpack_object *order, int64_t now_ms,
                           FILE *out) {
    static const struct { const char *field, *label; } rows[] = {
        {"held_deadline_ms", "held commands give up"}, {"payment_deadline_ms", "payment due"},
        {"acceptance_deadline_ms", "acceptance due"},  {"ready_estimate_ms", "ready"},
        {"auto_complete_ms", "completes by itself"},   {"refund_deadline_ms", "refunded by itself"},
        {"retention_deadline_ms", "leaves the engine"}};
    struct table *t = table_new("lll", cli->color);
    bool any = false;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t at = value_int(order, rows[i].field, 0);
        char relative[TEXT_BYTES], time[TEXT_BYTES];
        bool met = strcmp(rows[i].field, "ready_estimate_ms") == 0 &&
                   !show_state_is(order, "accepted");
        if (at == 0 || met) continue;
        any = true;
        table_cell(t, NULL, "%s", rows[i].label);
        table_cell(t, at < now_ms ? "31" : "33", "%s", text_relative(relative, at, now_ms));
        table_cell(t, "2", "%s", text_time(time, at));
    }
    if (any) fputc('\n', out);
    table_print(t, out, 2);
    table_delete(t);
}

static void show_facts(const struct cli *cli, const msgpack_object *order, int64_t now_ms,
                       FILE *out) {
    static const struct { const char *field, *label; } ids[] = {
        {"store", "store"}, {"customer", "customer"}, {"rider", "rider"}, {"group", "group"},
        {"external_ref", "reference"}};
    char text[SHOW_TEXT_BYTES], time[TEXT_BYTES], relative[TEXT_BYTES];
    struct table *t = table_new("ll", cli->color);
    int fulfilment = (int)value_int(order, "fulfilment", 0);
    if (fulfilment) { /* not known before the place */
        table_cell(t, "2", "fulfilment");
        table_cell(t, NULL, "%s, %s", names_word(NAMES_FULFILMENT, fulfilment),
                   names_word(NAMES_TIMING, (int)value_int(order, "payment_timing", 0)));
    }
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        value_text(order, ids[i].field, text, sizeof text);
        if (!*text) continue;
        table_cell(t, "2", "%s", ids[i].label);
        table_cell(t, NULL, "%s", text);
    }
    static const struct { const char *field, *label; } times[] = {{"placed_ms", "placed"},
                                                                  {"updated_ms", "last change"}};
    for (size_t i = 0; i < 2; i++) {
        int64_t at = value_int(order, times[i].field, 0);
        if (at == 0) continue;
        table_cell(t, "2", "%s", times[i].label);
        table_cell(t, NULL, "%s  (%s)", text_time(time, at), text_relative(relative, at, now_ms));
    }
    int64_t by = value_int(order, "ended_by", 0);
    value_text(order, "end_reason", text, sizeof text);
    if (by || *text) {
        table_cell(t, "2", "ended by");
        table_cell(t, "31", "%s%s%s", names_word(NAMES_PARTY, (int)by), *text ? ": " : "", text);
    }
    int64_t held = value_int(order, "held_count", 0), notes = value_int(order, "notes_count", 0);
    if (held) {
        table_cell(t, "2", "held");
        table_cell(t, "33", "%" PRId64 " waiting for the place", held);
    }
    if (notes) {
        table_cell(t, "2", "notes");
        table_cell(t, NULL, "%" PRId64 " (see: jumun history)", notes);
    }
    table_print(t, out, 2);
    table_delete(t);
}

void cli_show_order(const struct cli *cli, const msgpack_object *order, int64_t now_ms,
                    FILE *out) {
    char key[SHOW_TEXT_BYTES], state[SHOW_TEXT_BYTES], currency[8];
    value_text(order, "key", key, sizeof key);
    value_text(order, "state", state, sizeof state);
    value_text(order, "currency", currency, sizeof currency);
    fprintf(out, "%s%s%s  ", CLI_STYLE(cli, "1"), key, CLI_PLAIN(cli));
    if (cli->color) fprintf(out, "\x1b[1;%sm%s\x1b[0m", show_state_style(state), state);
    else fputs(state, out);
    fprintf(out, "  %sversion %" PRId64 ", index %" PRId64 "%s\n", CLI_STYLE(cli, "2"),
            value_int(order, "version", 0), value_int(order, "last_index", 0), CLI_PLAIN(cli));
    show_facts(cli, order, now_ms, out);
    fputc('\n', out);
    show_lines(cli, order, currency, out);
    if (value_count(value_at(order, "lines")) > 0) fputc('\n', out);
    show_money(cli, order, currency, out);
    show_payments(cli, order, currency, out);
    show_deadlines(cli, order, now_ms, out);
}

/* -- history ----------------------------------------------------------------------------------- */

/* How a field of an event's info is told. */
enum show_form { SHOW_PLAIN, SHOW_SKIPPED, SHOW_MONEY, SHOW_DEADLINE, SHOW_FULFILMENT, SHOW_TIMING,
                 SHOW_PARTY, SHOW_LINES };

static enum show_form show_form_of(const char *field) {
    static const struct { const char *field; enum show_form form; } forms[] = {
        {"total", SHOW_MONEY},           {"fees", SHOW_MONEY},        {"discounts", SHOW_MONEY},
        {"amount", SHOW_MONEY},          {"captured", SHOW_MONEY},    {"refunded", SHOW_MONEY},
        {"authorised", SHOW_MONEY},      {"refund_owed", SHOW_MONEY}, {"lines_total", SHOW_SKIPPED},
        {"currency", SHOW_SKIPPED},      {"attributes", SHOW_SKIPPED},{"part", SHOW_SKIPPED},
        {"fulfilment", SHOW_FULFILMENT}, {"payment_timing", SHOW_TIMING}, {"by", SHOW_PARTY},
        {"lines", SHOW_LINES},           {"payment_timeout_ms", SHOW_SKIPPED},
        {"acceptance_timeout_ms", SHOW_SKIPPED}, {"auto_complete_ms", SHOW_SKIPPED}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(forms[i].field, field) == 0) return forms[i].form;
    }
    size_t size = strlen(field);
    return size > 3 && strcmp(field + size - 3, "_ms") == 0 ? SHOW_DEADLINE : SHOW_PLAIN;
}

/* Lines of a cancel are told one by one, those of a basket are counted. */
static void show_event_lines(const msgpack_object *lines, char *out, size_t bytes) {
    uint32_t count = value_count(lines);
    size_t used = 0;
    out[0] = 0;
    if (count == 0) return;
    if (count > 4 || value_count(value_item(lines, 0)) != 2) {
        snprintf(out, bytes, "%u", count);
        return;
    }
    for (uint32_t i = 0; i < count && used < bytes; i++) {
        const msgpack_object *line = value_item(lines, i);
        used += (size_t)snprintf(out + used, bytes - used, "%s#%" PRId64 " x %" PRId64,
                                 i ? ", " : "", show_int(line, 0, ""), show_int(line, 1, ""));
    }
}

/* Writes the value of one field; empty = leave it out. */
static void show_info_value(const char *field, const msgpack_object *v, const char *currency,
                            int64_t time_ms, char *out, size_t bytes) {
    char text[TEXT_BYTES];
    int64_t n = value_int(v, "", 0);
    out[0] = 0;
    switch (show_form_of(field)) {
    case SHOW_SKIPPED: return;
    case SHOW_MONEY:
        if (n != 0) snprintf(out, bytes, "%s", text_money(text, n, currency));
        return;
    case SHOW_DEADLINE:
        if (n != 0) snprintf(out, bytes, "%s", text_relative(text, n, time_ms));
        return;
    case SHOW_FULFILMENT: snprintf(out, bytes, "%s", names_word(NAMES_FULFILMENT, (int)n)); return;
    case SHOW_TIMING: snprintf(out, bytes, "%s", names_word(NAMES_TIMING, (int)n)); return;
    case SHOW_PARTY:
        if (n != 0) snprintf(out, bytes, "%s", names_word(NAMES_PARTY, (int)n));
        return;
    case SHOW_LINES: show_event_lines(v, out, bytes); return;
    case SHOW_PLAIN:
        if (value_count(v) > 0) snprintf(out, bytes, "%u", value_count(v));
        else value_show(v, out, bytes);
        if (strcmp(out, "0") == 0) out[0] = 0;
        return;
    }
}

/* "name value" for all that an event's info says. Times stand against the event's own time. */
static void show_info(const msgpack_object *event, const char *currency, char *out, size_t bytes) {
    const msgpack_object *info = value_at(event, "info");
    int64_t time_ms = value_int(event, "time_ms", 0);
    char cause[64];
    size_t used = 0;
    out[0] = 0;
    value_text(event, "cause_kind", cause, sizeof cause);
    if (strcmp(cause, "timer_due") == 0) used = (size_t)snprintf(out, bytes, "by a deadline");
    if (strcmp(cause, "resolve_held") == 0) used = (size_t)snprintf(out, bytes, "was held");
    if (!info || info->type != MSGPACK_OBJECT_MAP) return;
    for (uint32_t i = 0; i < info->via.map.size; i++) {
        char field[64], text[256];
        value_show(&info->via.map.ptr[i].key, field, sizeof field);
        show_info_value(field, &info->via.map.ptr[i].val, currency, time_ms, text, sizeof text);
        if (!*text) continue;
        size_t size = strlen(field);
        if (show_form_of(field) == SHOW_DEADLINE) field[size - 3] = 0;
        for (char *c = field; *c; c++) *c = *c == '_' ? ' ' : *c;
        int n = snprintf(out + used, bytes - used, "%s%s %s", used ? ", " : "", field, text);
        if (n < 0 || (size_t)n >= bytes - used) return;
        used += (size_t)n;
    }
}

static const msgpack_object *show_first(const msgpack_object *map, const char *const *names) {
    for (; *names; names++) {
        const msgpack_object *v = value_at(map, *names);
        if (v) return v;
    }
    return NULL;
}

void cli_show_history(const struct cli *cli, const msgpack_object *history, FILE *out) {
    static const char *const action_names[] = {"action", "event", "name", "kind", NULL};
    static const char *const state_names[] = {"state", "state_after", NULL};
    const msgpack_object *events = value_at(history, "events");
    if (!events) events = history;
    struct table *t = table_new("rlllrl", cli->color);
    char text[SHOW_TEXT_BYTES], time[TEXT_BYTES], span[TEXT_BYTES];
    char currency[8] = "";
    int64_t before = 0;
    for (uint32_t i = 0; i < value_count(events); i++) {
        const msgpack_object *e = value_item(events, i);
        /* Only the placing names the currency; a history cut by --limit may lack it. */
        if (value_at(e, "info.currency")) {
            value_text(e, "info.currency", currency, sizeof currency);
        }
        int64_t at = value_int(e, "time_ms", 0);
        table_cell(t, "2", "%" PRId64, value_int(e, "version", 0));
        table_cell(t, NULL, "%s", text_time(time, at));
        value_show(show_first(e, action_names), text, sizeof text);
        table_cell(t, "1", "%s", text);
        value_show(show_first(e, state_names), text, sizeof text);
        table_cell(t, show_state_style(text), "%s", text);
        if (before && at >= before) table_cell(t, "2", "+%s", text_span(span, at - before));
        else table_cell(t, "2", "%s", "");
        char details[SHOW_TEXT_BYTES];
        show_info(e, currency, details, sizeof details);
        table_cell(t, "2", "%s", details);
        before = at;
    }
    struct winsize size;
    bool terminal = isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &size) == 0;
    if (terminal && size.ws_col >= 40) table_wrap(t, size.ws_col);
    table_print(t, out, 0);
    table_delete(t);
    if (value_count(events) == 0) fputs("no events\n", out);
}

void cli_show_store(const struct cli *cli, const msgpack_object *store, FILE *out) {
    char id[SHOW_TEXT_BYTES], reason[SHOW_TEXT_BYTES], count[TEXT_BYTES];
    value_text(store, "id", id, sizeof id);
    value_text(store, "pause_reason", reason, sizeof reason);
    bool paused = value_bool(store, "paused", false);
    fprintf(out, "%s%s%s  %s%s%s%s%s  %sversion %" PRId64 "%s\n", CLI_STYLE(cli, "1"), id,
            CLI_PLAIN(cli), paused ? CLI_STYLE(cli, "1;31") : CLI_STYLE(cli, "1;32"),
            paused ? "paused" : "running", CLI_PLAIN(cli), paused && *reason ? ": " : "",
            paused ? reason : "", CLI_STYLE(cli, "2"), value_int(store, "version", 0),
            CLI_PLAIN(cli));
    int64_t open = value_int(store, "open_orders", 0);
    /* News travel between shards: for a moment an end may be counted before its beginning. */
    fprintf(out, "  open orders    %s%s\n", open < 0 ? "-" : "",
            text_count(count, (uint64_t)(open < 0 ? -open : open)));
    fprintf(out, "  placed so far  %s\n",
            text_count(count, (uint64_t)value_int(store, "placed_orders", 0)));
}
