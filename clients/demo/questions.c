#include "clients/demo/questions.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clients/cli/text.h"
#include "clients/cli/value.h"
#include "clients/sdk/jumun_query.h"

enum { QUESTIONS_WAIT_MS = 20000, DAY_MS = 86400000 };

struct questions {
    jumun_queries *queries;
    double took_ms;
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The answer, which is never NULL but without memory; its code says how it went. */
static jumun_answer *ask(struct questions *q, const jumun_query *query) {
    jumun_answer *answer;
    double began_ms = now_ms();
    jumun_query_run(q->queries, query, &answer);
    q->took_ms = now_ms() - began_ms;
    return answer;
}

static void line(const struct questions *q, const char *question, const char *answer) {
    printf("  %-34s %-42s %7.2f ms\n", question, answer, q->took_ms);
}

static bool print_state(struct questions *q) {
    /* The first question waits until the replica has everything that was played. */
    jumun_query query = {.kind = JUMUN_REPLICA_STATUS,
                         .demand = {.strict = true, .wait_ms = QUESTIONS_WAIT_MS,
                                    .timeout_ms = QUESTIONS_WAIT_MS}};
    jumun_answer *a = ask(q, &query);
    msgpack_unpacked unpacked;
    size_t offset = 0;
    char events[TEXT_BYTES];
    msgpack_unpacked_init(&unpacked);
    bool good = a && a->code == JUMUN_OK &&
                msgpack_unpack_next(&unpacked, a->value, a->value_bytes, &offset) ==
                    MSGPACK_UNPACK_SUCCESS;
    if (good) {
        const msgpack_object *s = &unpacked.data;
        printf("  %s events since its start; from decided to visible p50 %.1f ms, p99 %.1f ms; "
               "state %u ms old\n",
               text_count(events, (uint64_t)value_int(s, "applier.events", 0)),
               (double)value_int(s, "lag_us.p50", 0) / 1e3,
               (double)value_int(s, "lag_us.p99", 0) / 1e3, a->age_ms);
    } else {
        printf("  no answer: %s\n", jumun_result_text(a ? a->code : JUMUN_NO_MEMORY));
    }
    msgpack_unpacked_destroy(&unpacked);
    jumun_answer_free(a);
    return good;
}

static void print_order(struct questions *q, const char *question, const jumun_query *query) {
    char text[TEXT_BYTES] = "none";
    jumun_order *order;
    jumun_answer *a = ask(q, query);
    if (a && jumun_answer_order(a, 0, &order) == JUMUN_OK) {
        snprintf(text, sizeof text, "%s, %" PRId64 ".%02" PRId64 " %s, %u lines", order->state,
                 order->total / 100, order->total % 100, order->currency, order->lines_count);
        jumun_order_free(order);
    }
    line(q, question, text);
    jumun_answer_free(a);
}

static void print_rows(struct questions *q, const char *question, const jumun_query *query) {
    char text[TEXT_BYTES];
    jumun_answer *a = ask(q, query);
    snprintf(text, sizeof text, "%u orders%s", a ? jumun_answer_rows(a) : 0,
             a && a->cursor ? ", and more" : "");
    line(q, question, text);
    jumun_answer_free(a);
}

/* Orders that came into a state today, all stores together. */
static void print_counter(struct questions *q, const char *state) {
    char question[TEXT_BYTES], text[TEXT_BYTES] = "none", orders[TEXT_BYTES];
    uint8_t number = (uint8_t)jumun_state_number(state);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t today_ms = (int64_t)t.tv_sec * 1000 / DAY_MS * DAY_MS;
    jumun_query query = {.kind = JUMUN_COUNTERS, .bucket_ms = DAY_MS, .has_from = true,
                         .from_ms = today_ms, .states = &number, .states_count = 1};
    jumun_counter c;
    jumun_answer *a = ask(q, &query);
    if (a && jumun_answer_counter(a, 0, &c) == JUMUN_OK) {
        snprintf(text, sizeof text, "%s orders, %" PRId64 ".%02" PRId64 " %s",
                 text_count(orders, (uint64_t)c.orders), c.total / 100, c.total % 100, c.currency);
    }
    snprintf(question, sizeof question, "%s today (UTC)", state);
    line(q, question, text);
    jumun_answer_free(a);
}

static void print_questions(struct questions *q, const struct retail *retail) {
    const struct retail_invoice *sale = NULL;
    for (uint32_t i = 0; i < retail->count && !sale; i++) {
        const struct retail_invoice *at = &retail->invoices[i];
        if (at->kind == RETAIL_SALE && at->customer) sale = at;
    }
    if (sale) {
        char question[TEXT_BYTES];
        const jumun_query by_ref = {.kind = JUMUN_BY_REF, .subject = sale->number, .limit = 1};
        const jumun_query customer = {.kind = JUMUN_CUSTOMER_ORDERS, .subject = sale->customer,
                                      .limit = 1000};
        snprintf(question, sizeof question, "invoice %s", sale->number);
        print_order(q, question, &by_ref);
        snprintf(question, sizeof question, "orders of customer %s", sale->customer);
        print_rows(q, question, &customer);
    }
    const jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = "retail-united-kingdom",
                               .limit = 1000};
    print_rows(q, "open in retail-united-kingdom", &board);
    print_counter(q, "placed");
    print_counter(q, "completed");
}

bool questions_print(const struct play *play, const struct retail *retail, const char *address,
                     bool color) {
    char error[256] = "";
    const jumun_query_options options = {.session = play->client};
    struct questions q = {.queries = jumun_queries_open(address, &options, error, sizeof error)};
    printf(color ? "\n\x1b[1m%s\x1b[0m\n" : "\n%s\n", "Query replica");
    if (!q.queries) {
        printf("  %s: %s\n", address, error);
        return false;
    }
    bool good = print_state(&q);
    if (good) print_questions(&q, retail);
    jumun_queries_close(q.queries);
    return good;
}
