/* Events on their way to a subscriber that answers for them (docs/protocol.md, republished events):
 * what is written to a stream is gathered into messages, and each is sent until it is acknowledged.
 *
 * One thread. Waits for the subscriber, for the patience of feed_link.h at a time. */
#ifndef JUMUN_REPLAY_REPUBLISH_H
#define JUMUN_REPLAY_REPUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct republish;

/* NULL with a sentence. The subscriber need not be there yet. */
struct republish *republish_open(const char *endpoint, char *error, size_t error_bytes);
void republish_close(struct republish *republish);

/* Where one event after the other is written to, as a msgpack map. Lives as long as it. */
FILE *republish_stream(struct republish *republish);

/* Behind each event. 1 = a message was acknowledged, with all events before this one; 0 = this one
 * waits for others; -1 = republish_error() tells. */
int republish_event(struct republish *republish);
/* Sends what waits; `whole`: and that the run is over, which one that was cut short never tells.
 * 0 = all is acknowledged, or -1. */
int republish_end(struct republish *republish, bool whole);

const char *republish_error(const struct republish *republish);
uint64_t republish_acknowledged(const struct republish *republish); /* events */
uint64_t republish_messages(const struct republish *republish);     /* acknowledged, with the end */
const char *republish_stream_id(const struct republish *republish); /* 26 characters */

#endif
