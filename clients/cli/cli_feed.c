#include "clients/cli/cli_feed.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "clients/cli/cli_stop.h"
#include "clients/cli/text.h"
#include "clients/sdk/raw_call.h"
#include "engine/wire/protocol.h"

enum { FEED_ATTEMPT_MS = 2000, FEED_PAUSE_US = 100000 };

__attribute__((format(printf, 4, 5)))
static bool feed_failed(struct cli_feed *f, int status, uint16_t code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(f->error, sizeof f->error, format, list);
    va_end(list);
    f->status = status;
    f->code = code;
    return false;
}

/* What one attempt may take: with others to turn to, not all that is left. */
static uint32_t feed_patience(const struct cli_feed *f, uint64_t until_ns) {
    uint64_t now_ns = text_mono_ns();
    uint64_t left_ms = until_ns > now_ns ? (until_ns - now_ns) / 1000000 : 0;
    if (f->nodes_count > 1 && left_ms > FEED_ATTEMPT_MS) left_ms = FEED_ATTEMPT_MS;
    return left_ms ? (uint32_t)left_ms : 1;
}

/* -- the nodes --------------------------------------------------------------------------------- */

static void feed_add_node(struct cli_feed *f, const char *url) {
    for (uint32_t i = 0; i < f->nodes_count; i++)
        if (strcmp(f->nodes[i].url, url) == 0) return;
    if (f->nodes_count == NODES_MAX || strlen(url) >= ENDPOINT_BYTES_MAX || *url == 0) return;
    struct cli_feed_node *node = &f->nodes[f->nodes_count++];
    *node = (struct cli_feed_node){.heard = false};
    snprintf(node->url, sizeof node->url, "%s", url);
}

/* The other nodes of its cluster, as a shard map tells them: [[node, endpoint], ...]. */
static void feed_take_nodes(struct cli_feed *f, const char *asked, const msgpack_object *map) {
    const msgpack_object *nodes = value_at(map, "nodes");
    for (uint32_t i = 0; i < value_count(nodes); i++) {
        char url[ENDPOINT_BYTES_MAX], told[ENDPOINT_BYTES_MAX];
        value_show(value_item(value_item(nodes, i), 1), told, sizeof told);
        feed_address(asked, bytes_of_text(told), url);
        feed_add_node(f, url);
    }
}

/* Where its feed is. */
static bool feed_find(struct cli_feed *f, struct cli_feed_node *node, uint64_t until_ns) {
    static const uint8_t request[] = {0x93, PROTOCOL_VERSION, 0xc0, 0x91, 0x91,
                                      NODE_COMMAND_SHARD_MAP};
    void *reply = NULL;
    size_t bytes = 0, offset = 0;
    bool sent;
    char error[256];
    if (node->feed[0]) return true;
    if (!raw_call(node->url, feed_patience(f, until_ns), request, sizeof request, &reply, &bytes,
                  &sent, error, sizeof error))
        return feed_failed(f, CLI_NO_ANSWER, 0, "%s: %s", node->url, error);
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    bool found = feed_endpoint_decode(reply, bytes, node->url, node->feed);
    bool replica = false, feed = false;
    if (msgpack_unpack_next(&unpacked, reply, bytes, &offset) == MSGPACK_UNPACK_SUCCESS) {
        const msgpack_object *map =
            value_item(value_item(value_item(&unpacked.data, 2), 0), 5);
        replica = value_bool(map, "replica", false);
        /* Behind the sentence of a refusal a feed has a detail. */
        feed = unpacked.data.type == MSGPACK_OBJECT_ARRAY && unpacked.data.via.array.size > 3 &&
               value_item(&unpacked.data, 1) &&
               value_item(&unpacked.data, 1)->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
               value_item(&unpacked.data, 1)->via.u64 != RESULT_OK;
        if (found) feed_take_nodes(f, node->url, map);
    }
    msgpack_unpacked_destroy(&unpacked);
    free(reply);
    if (found) return true;
    if (replica || feed)
        return feed_failed(f, CLI_USAGE, 0, "--endpoint %s: %s", node->url,
                           cli_wrong_server_text(replica ? CLI_REPLICA : CLI_FEED));
    return feed_failed(f, CLI_REFUSED, 0, "%s: this node has no feed", node->url);
}

/* -- one question ------------------------------------------------------------------------------ */

/* Refusals of one node that another one may not have. */
static bool feed_code_passes(uint16_t code) {
    return code == RESULT_OVERLOADED || code == RESULT_NOT_READY || code == RESULT_SHUTTING_DOWN ||
           code == RESULT_OUT_OF_MEMORY;
}

/* Asks one node. NULL with the failure noted; *passes = it may be worth asking again. */
static void *feed_try(struct cli_feed *f, struct cli_feed_node *node, uint64_t until_ns,
                      const struct msgpack_writer *w, enum feed_kind kind,
                      struct feed_reply *reply, bool *passes) {
    void *bytes = NULL;
    size_t size;
    bool sent;
    char error[256];
    *passes = true;
    if (!feed_find(f, node, until_ns)) return NULL;
    if (!raw_call(node->feed, feed_patience(f, until_ns), w->start, msgpack_writer_size(w), &bytes,
                  &size, &sent, error, sizeof error)) {
        feed_failed(f, CLI_NO_ANSWER, 0, "%s: %s", node->feed, error);
        node->feed[0] = 0; /* perhaps elsewhere, when the node is back */
        return NULL;
    }
    bool ok = feed_reply_decode(bytes, size, kind, FEED_MARKS, reply);
    if (ok && !feed_reply_is_of(reply, f->cluster->id)) { /* it was, when it was heard */
        *passes = false;
        free(bytes);
        feed_failed(f, CLI_REFUSED, 0, "%s: a node of another cluster is there now", node->feed);
        return NULL;
    }
    bool stands = ok && reply->code == 0 && kind == FEED_PULL && reply->next <= reply->from;
    if (ok && reply->code == 0 && !stands) return bytes;
    *passes = stands || (ok && feed_code_passes(reply->code));
    if (ok && !stands) {
        text_printable(error, sizeof error, reply->sentence.data, reply->sentence.size);
        feed_failed(f, CLI_REFUSED, reply->code, "%s: %s", node->feed, error);
    } else {
        feed_failed(f, CLI_NO_ANSWER, 0, "%s: %s", node->feed,
                    ok ? "it has not got so far as the others" : "it does not speak this protocol");
    }
    free(bytes);
    return NULL;
}

void *cli_feed_ask(struct cli_feed *f, const struct msgpack_writer *w, enum feed_kind kind,
                   struct feed_reply *reply) {
    uint64_t until_ns = text_mono_ns() + (uint64_t)f->cli->timeout_ms * 1000000;
    void *bytes = NULL;
    bool again = true;
    cli_wait_begin(&f->wait_feed, f->cli, "for the feed of the node, %s, to answer",
                   f->nodes[f->at].feed);
    while (!bytes && again && !cli_stop_asked()) {
        again = false;
        for (uint32_t i = 0; i < f->nodes_count && !bytes; i++) {
            bool passes;
            bytes = feed_try(f, &f->nodes[f->at], until_ns, w, kind, reply, &passes);
            if (!bytes) f->at = (f->at + 1) % f->nodes_count;
            again = again || passes;
        }
        again = again && text_mono_ns() < until_ns;
        if (!bytes && again) usleep(FEED_PAUSE_US);
    }
    cli_wait_end(&f->wait_feed);
    if (bytes) return bytes;
    if (cli_stop_asked()) return NULL;
    cli_error(f->cli, "%s", f->error);
    if (f->code == RESULT_IMPORT_REQUIRED)
        fputs("The log does not reach back so far: jumun import --full\n", stderr);
    return NULL;
}

/* -- how far the logs are ---------------------------------------------------------------------- */

static bool feed_take_hello(struct cli_feed *f, const struct cli_feed_node *node,
                            const struct feed_hello *hello) {
    if (!cli_cluster_agrees(f->cli, f->cluster, hello->cluster_id, "the node at %.256s", node->url))
        return false;
    for (uint32_t i = 0; i < hello->active.size; i++)
        f->active[i] |= ((const uint8_t *)hello->active.data)[i];
    for (uint32_t i = 0; i < hello->shards_held; i++) {
        const struct feed_hello_shard *s = &hello->shards[i];
        uint32_t at = 0;
        while (at < f->places_count && f->places[at].shard != s->shard) at++;
        if (s->shard >= SHARDS_MAX || at == CLI_TOKENS_MAX) continue;
        if (at == f->places_count) f->places[f->places_count++].shard = s->shard;
        if (s->commit > f->places[at].commit) f->places[at].commit = s->commit;
    }
    return true;
}

/* False: no answer, or of another cluster, which is told and noted as CLI_BAD_FILE. */
static bool feed_hear(struct cli_feed *f, struct cli_feed_node *node, uint64_t until_ns) {
    struct feed_hello_shard shards[CLI_TOKENS_MAX];
    struct feed_hello hello = {.shards = shards, .shards_max = CLI_TOKENS_MAX};
    uint8_t room[16];
    struct msgpack_writer w;
    struct feed_reply reply;
    bool passes;
    msgpack_writer_init(&w, room, sizeof room);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, FEED_HELLO);
    void *bytes = feed_try(f, node, until_ns, &w, FEED_HELLO, &reply, &passes);
    if (!bytes) return false;
    bool ok = feed_hello_decode(reply.rest, &hello);
    if (!ok) feed_failed(f, CLI_NO_ANSWER, 0, "%s: it does not speak this protocol", node->feed);
    if (ok && !feed_take_hello(f, node, &hello)) {
        f->status = CLI_BAD_FILE;
        ok = false;
    }
    free(bytes);
    node->heard = ok;
    return ok;
}

/* A shard that exists, and that no node told of that was heard; -1 = none. */
static int feed_lacks(const struct cli_feed *f) {
    for (uint32_t shard = 0; shard < SHARDS_MAX; shard++) {
        bool here = !(f->active[shard / 8] >> shard % 8 & 1);
        for (uint32_t i = 0; i < f->places_count; i++) here = here || f->places[i].shard == shard;
        if (!here) return (int)shard;
    }
    return -1;
}

/* Whether other nodes may know more. */
static bool feed_wants_more(const struct cli_feed *f, const jumun_token *tokens, uint32_t count) {
    bool more = feed_lacks(f) >= 0;
    for (uint32_t t = 0; t < count; t++)
        for (uint32_t i = 0; i < f->places_count; i++)
            more = more || (f->places[i].shard == tokens[t].shard &&
                            f->places[i].commit < tokens[t].index);
    return more;
}

int cli_feed_open(struct cli_feed *f, struct cli *cli, struct cli_cluster_of *cluster,
                  const jumun_token *tokens, uint32_t tokens_count) {
    uint64_t until_ns = text_mono_ns() + (uint64_t)cli->timeout_ms * 1000000;
    char *all = strdup(cli->endpoint), *rest = NULL;
    bool heard = false;
    f->cli = cli;
    f->cluster = cluster;
    if (!cli_addresses(cli, "endpoint", cli->endpoint)) {
        free(all);
        return CLI_USAGE;
    }
    for (char *url = all ? strtok_r(all, ",", &rest) : NULL; url; url = strtok_r(NULL, ",", &rest))
        feed_add_node(f, url);
    free(all);
    feed_failed(f, CLI_NO_ANSWER, 0, "%s: no node is named there", cli->endpoint);
    cli_wait_begin(&f->wait_node, cli, "for a node at %s to tell where its log is read "
                   "(--endpoint)", cli->endpoint);
    do {
        for (uint32_t i = 0; i < f->nodes_count; i++) {
            if (heard && !feed_wants_more(f, tokens, tokens_count)) break;
            f->status = CLI_NO_ANSWER;
            if (!feed_hear(f, &f->nodes[i], until_ns)) {
                if (f->status != CLI_BAD_FILE) continue;
                cli_wait_end(&f->wait_node);
                return CLI_REFUSED; /* of another cluster: told */
            }
            if (!heard) f->at = i;
            heard = true;
        }
        if (!heard) usleep(FEED_PAUSE_US);
    } while (!heard && f->status == CLI_NO_ANSWER && text_mono_ns() < until_ns &&
             !cli_stop_asked());
    cli_wait_end(&f->wait_node);
    if (!heard && !cli_stop_asked()) cli_error(cli, "%s", f->error);
    if (!heard) return f->status;
    if (feed_lacks(f) < 0) return CLI_DONE;
    cli_error(cli, "none of the nodes that answer has a replica of shard %d, so what changed in "
              "it cannot be read: give --endpoint one that has", feed_lacks(f));
    return CLI_REFUSED;
}
