/* Places an order, pays for it and reads it back: the smallest useful client.
 *
 *     cc place_order.c $(pkg-config --cflags --libs jumun) -o place_order
 *     ./place_order tcp://127.0.0.1:7400
 */
#include <jumun.h>
#include <stdio.h>

static int failed(const char *what, const jumun_result *r) {
    char id[JUMUN_KEY_TEXT_BYTES];
    jumun_key_format(&r->id, id);
    fprintf(stderr, "%s: %s (%s) %s\n", what, jumun_result_text(r->code),
            jumun_result_name(r->code), r->detail);
    /* The same id may be sent again, now or tomorrow: the engine acts on it once. */
    if (r->code == JUMUN_OUTCOME_UNKNOWN) fprintf(stderr, "ask again with id %s\n", id);
    return 1;
}

int main(int argc, char **argv) {
    const char *endpoint = argc > 1 ? argv[1] : "tcp://127.0.0.1:7400";
    char error[200];
    jumun_client *client = jumun_open(endpoint, NULL, error, sizeof error);
    if (!client) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }

    jumun_line lines[] = {{.sku = "bibimbap", .quantity = 2, .unit_price = 9500},
                          {.sku = "tea", .quantity = 1, .unit_price = 2000, .name = "barley tea"}};
    jumun_place place = {.fulfilment = JUMUN_PICKUP, .currency = "KRW", .store = "store-1",
                         .lines = lines, .lines_count = 2, .discounts = 1000, .total = 20000};
    jumun_pay pay = {.state = JUMUN_CAPTURED, .method = "card", .reference = "payment-1",
                     .amount = 20000};
    jumun_key key = jumun_key_new();
    jumun_order *order = NULL;
    jumun_result r;
    int status = 0;

    if (jumun_place_order(client, &key, &place, NULL, &r) != JUMUN_OK) {
        status = failed("place", &r);
    } else if (jumun_pay_order(client, &key, &pay, NULL, &r) != JUMUN_OK) {
        status = failed("pay", &r);
    } else if (jumun_get(client, &key, NULL, &order, &r) != JUMUN_OK) {
        status = failed("get", &r);
    } else {
        char text[JUMUN_KEY_TEXT_BYTES];
        jumun_key_format(&order->key, text);
        printf("order %s is %s, version %u, total %lld %s\n", text, order->state, order->version,
               (long long)order->total, order->currency);
        for (uint32_t i = 0; i < order->lines_count; i++)
            printf("  %lld x %s\n", (long long)order->lines[i].quantity, order->lines[i].sku);
    }
    jumun_order_free(order);
    jumun_close(client);
    return status;
}
