#include "clients/replay/republish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clients/cli/text.h"
#include "clients/replay/feed_link.h"
#include "engine/base/ulid.h"
#include "engine/wire/republish_encode.h"

/* A message is well below what nng takes without being told otherwise (1 MiB), unless one event
 * alone is longer. */
static const size_t message_bytes_max = 256u << 10;
enum { REPUBLISH_EVENTS_MAX = 1024, REPUBLISH_ANSWER_MS = 10000 };

struct republish {
    struct feed_link *link;
    struct feed_call *call;
    FILE *stream;
    uint8_t *gathered;         /* events that are not acknowledged */
    size_t bytes, capacity;
    size_t mark;               /* behind the event before the newest one */
    uint32_t events;
    struct id128 id;
    char id_text[27];
    uint64_t messages, acknowledged;
    char error[400];
};

static ssize_t republish_take(void *cookie, const char *data, size_t size) {
    struct republish *p = cookie;
    if (p->bytes + size > p->capacity) {
        size_t capacity = 2 * (p->bytes + size);
        uint8_t *grown = realloc(p->gathered, capacity);
        if (!grown) {
            errno = ENOMEM;
            return 0;
        }
        p->gathered = grown;
        p->capacity = capacity;
    }
    memcpy(p->gathered + p->bytes, data, size);
    p->bytes += size;
    return (ssize_t)size;
}

struct republish *republish_open(const char *endpoint, char *error, size_t error_bytes) {
    struct republish *p = calloc(1, sizeof *p);
    const cookie_io_functions_t functions = {.write = republish_take};
    snprintf(error, error_bytes, "%.200s: no memory", endpoint);
    if (!p) return NULL;
    p->link = feed_link_open_other(endpoint, error, error_bytes);
    if (p->link) p->call = feed_call_open(p->link);
    if (p->call) p->stream = fopencookie(p, "wb", functions);
    if (p->stream && getrandom(p->id.bytes, sizeof p->id.bytes, 0) == sizeof p->id.bytes) {
        ulid_format(&p->id, p->id_text);
        return p;
    }
    republish_close(p);
    return NULL;
}

void republish_close(struct republish *p) {
    if (!p) return;
    if (p->stream) fclose(p->stream);
    feed_call_close(p->call);
    feed_link_close(p->link);
    free(p->gathered);
    free(p);
}

FILE *republish_stream(struct republish *p) { return p->stream; }
const char *republish_error(const struct republish *p) { return p->error; }
uint64_t republish_acknowledged(const struct republish *p) { return p->acknowledged; }
uint64_t republish_messages(const struct republish *p) { return p->messages; }
const char *republish_stream_id(const struct republish *p) { return p->id_text; }

static int republish_fail(struct republish *p, const char *what) {
    snprintf(p->error, sizeof p->error, "%s: %s", feed_link_node(p->link), what);
    return -1;
}

static int republish_judge(struct republish *p, const struct feed_reply *reply) {
    char clean[256], what[320];
    if (reply->code == RESULT_OK && reply->from == p->messages + 1) return 0;
    if (reply->code == RESULT_OK) {
        return republish_fail(p, "it acknowledged another message than it was sent");
    }
    text_printable(clean, sizeof clean, reply->sentence.data, reply->sentence.size);
    snprintf(what, sizeof what, "it refused the events: %s [%u]", clean, reply->code);
    return republish_fail(p, what);
}

/* Sends the first `bytes` gathered bytes, which are `events` events, and takes them away. */
static int republish_send(struct republish *p, size_t bytes, uint32_t events) {
    struct msgpack_writer w;
    struct feed_reply reply;
    uint8_t *message = malloc(REPUBLISH_HEAD_BYTES_MAX + bytes);
    if (!message) return republish_fail(p, "no memory for a message");
    msgpack_writer_init(&w, message, REPUBLISH_HEAD_BYTES_MAX + bytes);
    republish_encode_head(&w, &p->id, p->messages + 1, events);
    if (bytes != 0) msgpack_write_raw(&w, p->gathered, bytes);
    nng_msg *answer = feed_call_ask(p->call, message, msgpack_writer_size(&w), REPUBLISH_ANSWER_MS,
                                    FEED_REPUBLISHED, &reply, p->error, sizeof p->error);
    free(message);
    int rc = answer ? republish_judge(p, &reply) : -1;
    if (answer) nng_msg_free(answer);
    if (rc != 0) return -1;
    p->messages++;
    p->acknowledged += events;
    p->events -= events;
    p->bytes -= bytes;
    if (p->bytes != 0) memmove(p->gathered, p->gathered + bytes, p->bytes);
    p->mark = p->bytes;
    return 0;
}

int republish_event(struct republish *p) {
    if (fflush(p->stream) != 0) return republish_fail(p, strerror(errno));
    p->events++;
    bool full = p->bytes > message_bytes_max || p->events > REPUBLISH_EVENTS_MAX;
    if (!full || p->events == 1) {
        p->mark = p->bytes;
        return 0;
    }
    return republish_send(p, p->mark, p->events - 1) == 0 ? 1 : -1;
}

int republish_end(struct republish *p, bool whole) {
    if (fflush(p->stream) != 0) return republish_fail(p, strerror(errno));
    if (p->events != 0 && republish_send(p, p->bytes, p->events) != 0) return -1;
    return whole ? republish_send(p, 0, 0) : 0;
}
