/* get, history, store get, ping: reads of one thing. */
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/names.h"
#include "clients/cli/text.h"

/* Lists of an order come as arrays by position; for scripts they get names. */
static void reads_name_items(json_t *order, const char *list, const char *const *names) {
    size_t i;
    json_t *item;
    json_t *items = json_object_get(order, list);
    json_array_foreach(items, i, item) {
        if (!json_is_array(item)) continue;
        json_t *named = json_object();
        for (size_t f = 0; names[f] && f < json_array_size(item); f++) {
            json_object_set(named, names[f], json_array_get(item, f));
        }
        json_array_set_new(items, i, named);
    }
}

static void reads_word(json_t *order, const char *field, enum names_kind kind) {
    json_t *number = json_object_get(order, field);
    if (!json_is_integer(number)) return;
    int n = (int)json_integer_value(number);
    json_object_set_new(order, field, n == 0 ? json_null() : json_string(names_word(kind, n)));
}

/* The caller's own msgpack, shown as what it is; what does not unpack stays as it came. */
static void reads_attributes(json_t *order, const msgpack_object *v) {
    if (!v || v->type != MSGPACK_OBJECT_BIN) return;
    if (v->via.bin.size == 0) {
        json_object_set_new(order, "attributes", json_null());
        return;
    }
    msgpack_unpacked unpacked;
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, v->via.bin.ptr, v->via.bin.size, &offset) ==
        MSGPACK_UNPACK_SUCCESS) {
        json_object_set_new(order, "attributes", value_to_json(&unpacked.data));
    }
    msgpack_unpacked_destroy(&unpacked);
}

void cli_order_words(json_t *order, const msgpack_object *attributes) {
    static const char *const line[] = {"sku", "quantity", "cancelled", "unit_price", "name", NULL};
    static const char *const payment[] = {"method", "reference", "amount", "state", NULL};
    reads_attributes(order, attributes);
    reads_name_items(order, "lines", line);
    reads_name_items(order, "payments", payment);
    reads_word(order, "fulfilment", NAMES_FULFILMENT);
    reads_word(order, "payment_timing", NAMES_TIMING);
    reads_word(order, "ended_by", NAMES_PARTY);
}

json_t *cli_order_json(const msgpack_object *value) {
    json_t *order = value_to_json(value);
    cli_order_words(order, value_at(value, "attributes"));
    return order;
}

int cli_get(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_GET};
    struct cli_answer answer;
    bool encoded;
    if (!cli_key(cli, cli_word(cli, 0), &c.order)) return CLI_USAGE;
    int status = cli_read(cli, &c, &answer, &encoded);
    if (status != CLI_DONE || encoded) return status;
    if (cli->json) cli_print_json(cli_order_json(answer.value));
    else cli_show_order(cli, answer.value, text_now_ms(), stdout);
    cli_answer_free(&answer);
    return status;
}

int cli_history(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_HISTORY};
    struct cli_answer answer;
    bool encoded;
    int64_t limit = 0;
    if (!cli_key(cli, cli_word(cli, 0), &c.order) || !cli_int_option(cli, "limit", &limit)) {
        return CLI_USAGE;
    }
    if (limit < 0 || limit > UINT32_MAX) return cli_usage(cli, "--limit: is out of range");
    c.history.limit = (uint32_t)limit;
    int status = cli_read(cli, &c, &answer, &encoded);
    if (status != CLI_DONE || encoded) return status;
    if (cli->json) cli_print_json(value_to_json(answer.value));
    else cli_show_history(cli, answer.value, stdout);
    cli_answer_free(&answer);
    return status;
}

int cli_store_get(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_STORE_GET, .store_id = cli_word(cli, 0)};
    struct cli_answer answer;
    bool encoded;
    int status = cli_read(cli, &c, &answer, &encoded);
    if (status != CLI_DONE || encoded) return status;
    if (cli->json) cli_print_json(value_to_json(answer.value));
    else cli_show_store(cli, answer.value, stdout);
    cli_answer_free(&answer);
    return status;
}

int cli_ping(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_NODE_PING};
    struct cli_answer answer;
    bool encoded;
    uint64_t started = text_mono_ns();
    int status = cli_read(cli, &c, &answer, &encoded);
    if (status != CLI_DONE || encoded) return status;
    uint64_t ns = text_mono_ns() - started;
    char took[TEXT_BYTES];
    if (cli->json) {
        cli_print_json(json_pack("{s:s, s:s, s:f}", "endpoint", cli->endpoint, "answer", "pong",
                                 "milliseconds", (double)((ns + 500) / 1000) / 1e3));
    } else if (!cli->quiet) {
        printf("%s answers in %s\n", cli->endpoint, text_latency(took, (double)ns));
    }
    cli_answer_free(&answer);
    return status;
}
