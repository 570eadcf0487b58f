/* Places an order at a node and asks a replica about it: own writes, pages of a list, a counter.
 *
 *     cc ask_replica.c $(pkg-config --cflags --libs jumun) -o ask_replica
 *     ./ask_replica tcp://127.0.0.1:7400 tcp://127.0.0.1:7500,tcp://127.0.0.1:7510
 */
#include <jumun.h>
#include <jumun_query.h>
#include <stdio.h>

/* NULL after saying why; else an answer for jumun_answer_free(). */
static jumun_answer *ask(jumun_queries *queries, const jumun_query *query) {
    jumun_answer *a;
    if (jumun_query_run(queries, query, &a) == JUMUN_OK) {
        /* Old, incomplete, or not what was demanded: an answer says so, and you decide. */
        if (a->stale || a->partial || a->lagging)
            fprintf(stderr, "careful: %u ms old%s\n", a->age_ms, a->partial ? ", incomplete" : "");
        return a;
    }
    fprintf(stderr, "%s\n", jumun_result_text(a ? a->code : JUMUN_NO_MEMORY));
    jumun_answer_free(a);
    return NULL;
}

/* The open orders of a store: each page's cursor goes into the next question. */
static int print_board(jumun_queries *queries, const char *store) {
    jumun_query board = {.kind = JUMUN_STORE_BOARD, .subject = store, .limit = 2};
    jumun_answer *page = NULL, *next;
    do {
        if (page) board.cursor = page->cursor, board.cursor_bytes = page->cursor_bytes;
        next = ask(queries, &board);
        jumun_answer_free(page); /* it held the cursor until now */
        page = next;
        for (uint32_t i = 0; page && i < jumun_answer_rows(page); i++) {
            jumun_order *order;
            if (jumun_answer_order(page, i, &order) != JUMUN_OK) continue;
            printf("  %s, %lld %s\n", order->state, (long long)order->total, order->currency);
            jumun_order_free(order);
        }
    } while (page && page->cursor);
    jumun_answer_free(page);
    return page ? 0 : 1;
}

int main(int argc, char **argv) {
    char error[200];
    jumun_client *client = jumun_open(argc > 1 ? argv[1] : "tcp://127.0.0.1:7400", NULL, error,
                                      sizeof error);
    /* With the client as its session a question sees all that the client has had an answer for. */
    jumun_query_options options = {.session = client};
    jumun_queries *queries =
        client ? jumun_queries_open(argc > 2 ? argv[2] : "tcp://127.0.0.1:7500", &options, error,
                                    sizeof error) : NULL;
    jumun_line lines[] = {{.sku = "bibimbap", .quantity = 2, .unit_price = 9500}};
    jumun_place place = {.fulfilment = JUMUN_PICKUP, .currency = "KRW", .store = "store-2",
                         .lines = lines, .lines_count = 1, .total = 19000};
    jumun_query own = {.kind = JUMUN_GET_ORDER, .order = jumun_key_new()};
    const uint8_t placed = (uint8_t)jumun_state_number("placed");
    jumun_query today = {.kind = JUMUN_COUNTERS, .subject = "store-2", .bucket_ms = 86400000,
                         .states = &placed, .states_count = 1};
    jumun_counter counter;
    jumun_order *order;
    jumun_answer *a;
    jumun_result r = {0};
    int status = 1;
    if (!queries) {
        fprintf(stderr, "%s\n", error);
    } else if (jumun_place_order(client, &own.order, &place, NULL, &r) != JUMUN_OK) {
        fprintf(stderr, "place: %s %s\n", jumun_result_text(r.code), r.detail);
    } else if ((a = ask(queries, &own))) {
        if (jumun_answer_order(a, 0, &order) == JUMUN_OK) {
            printf("my order is %s, version %u, answered by %s\n", order->state, order->version,
                   a->replica);
            jumun_order_free(order);
        }
        jumun_answer_free(a);
        status = print_board(queries, "store-2");
        if (status == 0 && (a = ask(queries, &today))) {
            for (uint32_t i = 0; jumun_answer_counter(a, i, &counter) == JUMUN_OK; i++)
                printf("placed: %lld orders, %lld %s\n", (long long)counter.orders,
                       (long long)counter.total, counter.currency);
            jumun_answer_free(a);
        }
    }
    if (queries) jumun_queries_close(queries);
    if (client) jumun_close(client);
    return status;
}
