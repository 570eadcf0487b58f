/* Any bytes as the value of a get -> the client's order, walked as a caller would. */
#include "clients/sdk/order_decode.h"
#include "engine/base/check.h"
#include "tests/fuzz/fuzz_harness.h"

static void touch_text(const char *text) {
    require(text != NULL);
    fuzz_touch(text, strlen(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    jumun_order *order = NULL;
    int code = order_decode(data, size, &order);
    require((code == JUMUN_OK) == (order != NULL));
    if (order == NULL) return 0;
    touch_text(order->state);
    touch_text(order->store);
    touch_text(order->customer);
    touch_text(order->rider);
    touch_text(order->group);
    touch_text(order->external_ref);
    touch_text(order->end_reason);
    fuzz_touch(order->attributes, order->attributes_bytes);
    require(memchr(order->currency, '\0', sizeof order->currency) != NULL);
    for (uint32_t i = 0; i < order->lines_count; i++) {
        touch_text(order->lines[i].sku);
        touch_text(order->lines[i].name);
    }
    for (uint32_t i = 0; i < order->payments_count; i++) {
        touch_text(order->payments[i].method);
        touch_text(order->payments[i].reference);
        touch_text(order->payments[i].state);
    }
    jumun_order_free(order);
    return 0;
}
