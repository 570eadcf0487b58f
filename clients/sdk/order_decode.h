/* The msgpack of an order (the value of GET) -> jumun_order. Untrusted input. */
#ifndef JUMUN_SDK_ORDER_DECODE_H
#define JUMUN_SDK_ORDER_DECODE_H

#include "clients/sdk/jumun.h"

/* JUMUN_OK and *order in one allocation, for jumun_order_free(); else JUMUN_BAD_REPLY or
 * JUMUN_NO_MEMORY and *order NULL. Keys that it does not know are skipped. Any thread. */
int order_decode(const void *value, size_t bytes, jumun_order **order);

#endif
