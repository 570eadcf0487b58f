/* Notifications: nng SUB, to several publishers at once. Beside connection.c the only file of the
 * library that knows nng. What is heard wakes and promises nothing: messages may be lost or come
 * from several publishers. */
#ifndef JUMUN_SDK_SUBSCRIPTION_H
#define JUMUN_SDK_SUBSCRIPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"

enum { SUBSCRIPTION_PUBLISHERS_MAX = 16 };

/* What a notification says (engine/wire/feed_protocol.h). */
struct heard {
    const char *topic;         /* not terminated */
    uint32_t topic_bytes, version;
    jumun_token token;
    jumun_key key;
    uint8_t kind, state;
};
/* From untrusted bytes; views point into them. False when it is none. */
bool heard_decode(const void *message, size_t bytes, struct heard *heard);

struct subscription;

/* on_heard: from a thread of nng, must not block; heard = NULL: a connection came, so some may have
 * been missed. `options`: its tls_* are used. NULL for lack of memory. */
struct subscription *subscription_open(void (*on_heard)(void *arg, const struct heard *heard),
                                       void *arg, const jumun_options *options);
/* Publisher `number` is at this address now. Any thread; false = it cannot be dialled. */
bool subscription_dial(struct subscription *s, uint32_t number, const char *address);
/* Dials publishers anew that have been away for long, as connection_redial() does. To be called now
 * and then by one thread. */
void subscription_look(struct subscription *s, int64_t now_ns);
/* Topics are counted by the caller: one add, one remove each. */
bool subscription_add(struct subscription *s, const char *topic);
void subscription_remove(struct subscription *s, const char *topic);
/* Nothing is heard after the return. Not from on_heard. */
void subscription_close(struct subscription *s);

#endif
