/* Notifications: small messages by topic over nng PUB, as engine/wire/feed_protocol.h shows them.
 * They wake; they promise nothing. Sending never blocks: nng drops what a slow subscriber has no
 * room for. While nobody subscribes, nothing is made. */
#ifndef JUMUN_FEED_NOTIFY_H
#define JUMUN_FEED_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/bytes.h"

struct tls_options;

struct notifier;

/* What changed. */
struct notice {
    struct id128 key;          /* the order's; zero for a store's own events */
    uint64_t index;
    uint32_t shard, version;
    uint8_t kind;              /* enum event_kind */
    uint8_t state;             /* of the subject, after it */
    struct bytes store, customer; /* size 0 = not known, or none: no message for it */
};

/* Listens. NULL with a sentence in error. */
struct notifier *notifier_open(const char *listen, const struct tls_options *tls, char *error,
                               size_t error_bytes);
const char *notifier_endpoint(const struct notifier *notifier);

/* Whether anybody listens; else notifier_send() is a waste. Any thread. */
bool notifier_is_heard(const struct notifier *notifier);
uint32_t notifier_subscribers(const struct notifier *notifier); /* connected now */

/* One message for each topic: the order's (unless its key is zero), the store's, the customer's.
 * One thread at a time. */
void notifier_send(struct notifier *notifier, const struct notice *notice);

uint64_t notifier_sent(const struct notifier *notifier);
void notifier_close(struct notifier *notifier);

/* The bytes of one message, at most NOTICE_BYTES_MAX; returns their number. Apart, for tests. */
enum { NOTICE_BYTES_MAX = 192 };
size_t notice_encode(const char *prefix, struct bytes id, const struct notice *notice,
                     uint8_t buffer[NOTICE_BYTES_MAX]);

#endif
