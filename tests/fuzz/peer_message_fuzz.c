/* Any bytes as an envelope between nodes, as a hello, and as another node's answer to commands that
 * were sent on to it: refused, or within bounds; a hello reads the same once more after it was
 * written. */
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/ingress/forwarding.h"
#include "engine/peers/hello.h"
#include "engine/peers/peer_message.h"
#include "tests/fuzz/fuzz_harness.h"

static void read_hello(struct bytes body) {
    static struct hello h, again;
    static uint8_t bytes[HELLO_BYTES_MAX];
    struct msgpack_writer w;
    memset(&h, 0, sizeof h);
    memset(&again, 0, sizeof again);
    if (!hello_read(body, &h)) return;
    require(h.leads_count <= LOCAL_SHARDS_SLOTS && h.heard_count <= NODES_MAX);
    msgpack_writer_init(&w, bytes, sizeof bytes);
    hello_write(&w, &h);
    require(msgpack_writer_ok(&w));
    require(hello_read(bytes_of(bytes, msgpack_writer_size(&w)), &again));
    require(memcmp(&h, &again, sizeof h) == 0);
}

static void done(struct request *request) {}

static void read_answer(struct bytes reply) {
    struct result results[2] = {{0}, {0}};
    struct request request = {.parts_left = 2, .commands_count = 2, .results = results,
                              .done = done};
    struct request_part part = {.request = &request, .count = 2};
    forwarding_take_reply(reply, &part, 1);
    for (int i = 0; i < 2; i++) {
        require(results[i].value_bytes <= reply.size);
        free(results[i].value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct peer_message m;
    if (peer_message_read(data, size, &m)) {
        require(m.from != 0 && m.body.size < size);
        read_hello(m.body);
    }
    read_hello(bytes_of(data, size));
    read_answer(bytes_of(data, size));
    return 0;
}
