/* jumun place: one order from flags or JSON; those of a file are cli_place_rows.c. */
#include <stdio.h>

#include "clients/cli/cli.h"
#include "clients/cli/cli_place.h"
#include "clients/cli/names.h"
#include "clients/cli/order_input.h"
#include "clients/cli/text.h"

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
    struct order_fault fault;
    char *spec;
    jumun_place *p = &order->place;
    for (size_t cursor = 0; (spec = args_next(&cli->args, "line", &cursor));) {
        if (!order_input_add_line(order, spec, &fault)) {
            return cli_usage(cli, "%s", fault.sentence);
        }
    }
    const char *attributes = args_value(&cli->args, "attributes");
    if (attributes && !order_input_attributes(order, attributes, &fault)) {
        return cli_usage(cli, "%s", fault.sentence);
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
    if (!order_input_finish(order, &fault)) return cli_usage(cli, "%s", fault.sentence);
    return cli_place_send(cli, order);
}

static int cli_place_json(struct cli *cli, struct order_input *order, const char *path) {
    struct input in;
    struct order_fault fault;
    char error[768];
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
    } else if (!order_input_json(order, in.row, in.row_used, &fault)) {
        cli_error(cli, "%s", order_fault_told(&fault, in.name, 0, error, sizeof error));
    } else {
        status = cli_place_send(cli, order);
    }
    input_close(&in);
    return status;
}

int cli_place(struct cli *cli) {
    const char *json = args_value(&cli->args, "from-json"), *csv = args_value(&cli->args, "csv");
    const char *jsonl = args_value(&cli->args, "jsonl");
    if (!!json + !!csv + !!jsonl > 1) {
        return cli_usage(cli, "only one of --from-json, --csv and --jsonl can be given");
    }
    if (csv || jsonl) {
        if (cli->encode) return cli_usage(cli, "only single orders can be encoded");
        return cli_place_rows(cli, csv ? csv : jsonl, csv != NULL);
    }
    struct order_input order;
    order_input_init(&order);
    int status = json ? cli_place_json(cli, &order, json) : cli_place_flags(cli, &order);
    order_input_fini(&order);
    return status;
}
