/* The commands of one order but place: each builds a jumun_command and sends it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/names.h"
#include "clients/cli/order_input.h"
#include "clients/cli/text.h"

enum { CLI_NOTHING_TO_REFUND = 136 }; /* docs/protocol.md */

/* Begins a command of the order that positional 0 names. */
static bool cli_begin(struct cli *cli, jumun_kind kind, jumun_command *command) {
    *command = (jumun_command){.kind = kind};
    return cli_key(cli, cli_word(cli, 0), &command->order) &&
           cli_write_values(cli, &command->options);
}

static int cli_word_missing(struct cli *cli, const char *option, enum names_kind kind,
                            const char *given) {
    if (!given) return cli_usage(cli, "--%s is needed: one of %s", option, names_all(kind));
    return cli_usage(cli, "--%s: \"%.40s\" is not one of %s", option, given, names_all(kind));
}

int cli_pay(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_PAY, &c)) return CLI_USAGE;
    const char *state = args_value(&cli->args, "state"), *amount = cli_word(cli, 1);
    c.pay.state = state ? (jumun_payment_state)names_parse(NAMES_PAYMENT_STATE, state)
                        : JUMUN_CAPTURED;
    if (!c.pay.state) return cli_word_missing(cli, "state", NAMES_PAYMENT_STATE, state);
    c.pay.method = args_value(&cli->args, "method");
    c.pay.reference = args_value(&cli->args, "reference");
    if (!c.pay.method) c.pay.method = "card";
    if (!c.pay.reference) return cli_usage(cli, "--reference is needed: it names the payment");
    if (!text_parse_int64(amount, &c.pay.amount)) {
        return cli_usage(cli, "\"%.40s\" is not a whole number of minor units", amount);
    }
    return cli_send(cli, &c);
}

int cli_accept(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_ACCEPT, &c)) return CLI_USAGE;
    if (!cli_int_option(cli, "minutes", &c.accept.preparation_minutes)) return CLI_USAGE;
    return cli_send(cli, &c);
}

int cli_reject(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_REJECT, &c)) return CLI_USAGE;
    c.reject.reason = args_value(&cli->args, "reason");
    return cli_send(cli, &c);
}

int cli_plain_step(struct cli *cli) {
    static const struct { const char *name; jumun_kind kind; } steps[] = {
        {"ready", JUMUN_MARK_READY}, {"unassign-rider", JUMUN_UNASSIGN_RIDER},
        {"pick-up", JUMUN_PICK_UP},  {"deliver", JUMUN_DELIVER},
        {"complete", JUMUN_COMPLETE}};
    jumun_kind kind = JUMUN_MARK_READY;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (strcmp(steps[i].name, cli->command->name) == 0) kind = steps[i].kind;
    }
    jumun_command c;
    if (!cli_begin(cli, kind, &c)) return CLI_USAGE;
    return cli_send(cli, &c);
}

int cli_assign_rider(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_ASSIGN_RIDER, &c)) return CLI_USAGE;
    c.assign_rider.rider = cli_word(cli, 1);
    return cli_send(cli, &c);
}

/* All --line N:QUANTITY into a list for the caller to free; *count < 0 after a usage error. */
static jumun_line_cancellation *cli_cancel_lines(struct cli *cli, int *count) {
    jumun_line_cancellation *lines = calloc(cli->args.given_count + 1, sizeof *lines);
    char *spec;
    *count = 0;
    for (size_t cursor = 0; lines && (spec = args_next(&cli->args, "line", &cursor));) {
        char *colon = strchr(spec, ':');
        int64_t line, quantity;
        if (colon) *colon = 0;
        if (!colon || !text_parse_int64(spec, &line) || line < 0 || line > UINT32_MAX ||
            !text_parse_int64(colon + 1, &quantity)) {
            if (colon) *colon = ':';
            cli_usage(cli, "--line: \"%.40s\" is not LINE:QUANTITY, lines count from 0", spec);
            *count = -1;
            break;
        }
        lines[(*count)++] = (jumun_line_cancellation){(uint32_t)line, quantity};
    }
    return lines;
}

int cli_cancel(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_CANCEL, &c)) return CLI_USAGE;
    const char *by = args_value(&cli->args, "by");
    c.cancel.by = (jumun_party)names_parse(NAMES_PARTY, by ? by : "customer");
    if (!c.cancel.by) return cli_word_missing(cli, "by", NAMES_PARTY, by);
    c.cancel.reason = args_value(&cli->args, "reason");
    int count;
    jumun_line_cancellation *lines = cli_cancel_lines(cli, &count);
    c.cancel.lines = count > 0 ? lines : NULL;
    c.cancel.lines_count = count > 0 ? (uint32_t)count : 0;
    int status = !lines || count < 0 ? CLI_USAGE : cli_send(cli, &c);
    free(lines);
    return status;
}

/* What is owed now becomes the amount, and the version that it was read at a condition. CLI_DONE,
 * or an exit status after the error was printed. */
static int cli_refund_owed(struct cli *cli, jumun_command *c) {
    char captured[TEXT_BYTES], refunded[TEXT_BYTES], total[TEXT_BYTES];
    jumun_order *order = NULL;
    if (cli->encode || args_value(&cli->args, "id")) {
        return cli_usage(cli, "an AMOUNT is needed, or \"all\", with %s: what is owed is another "
                              "amount later", cli->encode ? "encode" : "--id");
    }
    jumun_client *client = cli_client(cli);
    if (!client) return CLI_USAGE;
    jumun_result r = {0};
    if (jumun_get(client, &c->order, NULL, &order, &r) != JUMUN_OK) {
        return cli_refused(cli, &r, &c->order);
    }
    c->refund.amount = order->refund_owed;
    if (c->options.expected_version == 0) c->options.expected_version = order->version;
    if (order->refund_owed == 0) {
        snprintf(r.detail, sizeof r.detail, "captured %.21s, refunded %.21s, total %.21s",
                 text_money(captured, order->captured, order->currency),
                 text_money(refunded, order->refunded, order->currency),
                 text_money(total, order->total, order->currency));
        r.code = CLI_NOTHING_TO_REFUND;
    }
    jumun_order_free(order);
    if (r.code == JUMUN_OK) return CLI_DONE;
    int status = cli_refused(cli, &r, &c->order);
    if (!cli->json) {
        fputs("Nothing is owed. To give back what the order costs: an AMOUNT, or all.\n", stderr);
    }
    return status;
}

int cli_refund(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_REFUND, &c)) return CLI_USAGE;
    const char *amount = cli_word(cli, 1);
    if (!amount) {
        int status = cli_refund_owed(cli, &c);
        if (status != CLI_DONE) return status;
    } else if (strcmp(amount, "all") != 0) {
        if (!text_parse_int64(amount, &c.refund.amount) || c.refund.amount == 0) {
            return cli_usage(cli, "\"%.40s\" is neither \"all\" nor a number of minor units",
                             amount);
        }
    }
    c.refund.reason = args_value(&cli->args, "reason");
    int status = cli_send(cli, &c);
    if (status == CLI_NO_ANSWER && !amount) {
        fprintf(stderr, "What was owed: %" PRId64 ". A repeat needs it as the AMOUNT.\n",
                c.refund.amount);
    }
    return status;
}

int cli_amend(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_AMEND, &c)) return CLI_USAGE;
    struct order_input order;
    struct order_fault fault;
    char *spec;
    int status = CLI_USAGE;
    order_input_init(&order);
    for (size_t cursor = 0; (spec = args_next(&cli->args, "line", &cursor));) {
        if (order_input_add_line(&order, spec, &fault)) continue;
        cli_usage(cli, "%s", fault.sentence);
        goto out;
    }
    /* An amend keeps store and currency: stand-ins satisfy the check of completeness. */
    order.place.store = order.place.currency = "-";
    order.has_total = args_value(&cli->args, "total") != NULL;
    if (!cli_int_option(cli, "fees", &order.place.fees) ||
        !cli_int_option(cli, "discounts", &order.place.discounts) ||
        !cli_int_option(cli, "total", &order.place.total)) {
        goto out;
    }
    if (!order_input_finish(&order, &fault)) {
        cli_usage(cli, "%s", fault.sentence);
        goto out;
    }
    c.amend = (jumun_amend){order.place.lines, order.place.lines_count, order.place.fees,
                            order.place.discounts, order.place.total};
    status = cli_send(cli, &c);
out:
    order_input_fini(&order);
    return status;
}

int cli_annotate(struct cli *cli) {
    jumun_command c;
    if (!cli_begin(cli, JUMUN_ANNOTATE, &c)) return CLI_USAGE;
    c.annotate.note = cli_word(cli, 1);
    return cli_send(cli, &c);
}

int cli_store_pause(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_STORE_PAUSE, .store_id = cli_word(cli, 0)};
    if (!cli_write_values(cli, &c.options)) return CLI_USAGE;
    c.store_pause.reason = args_value(&cli->args, "reason");
    return cli_send(cli, &c);
}

int cli_store_resume(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_STORE_RESUME, .store_id = cli_word(cli, 0)};
    if (!cli_write_values(cli, &c.options)) return CLI_USAGE;
    return cli_send(cli, &c);
}
