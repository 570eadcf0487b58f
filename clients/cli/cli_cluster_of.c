#include "clients/cli/cli_cluster_of.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "clients/sdk/raw_call.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/protocol.h"

enum { STATUS_PATIENCE_MS = 2000 };

bool cli_cluster_agrees(struct cli *cli, struct cli_cluster_of *cluster, const char *id,
                        const char *who, ...) {
    char name[sizeof cluster->who];
    va_list list;
    if (id[0] == 0 || strcmp(id, cluster->id) == 0) return true;
    va_start(list, who);
    vsnprintf(name, sizeof name, who, list);
    va_end(list);
    if (cluster->id[0] == 0) {
        snprintf(cluster->id, sizeof cluster->id, "%s", id);
        memcpy(cluster->who, name, sizeof name);
        return true;
    }
    cli_error(cli, "%s is of cluster %s, but %s of cluster %s: they must be of one cluster",
              cluster->who, cluster->id, name, id);
    return false;
}

/* -- what a replica says of itself ------------------------------------------------------------- */

struct status_call {
    struct cli_replica_status *status;
    uint32_t timeout_ms;
    pthread_t thread;
    bool threaded;
};

static void status_read(struct cli_replica_status *s, const msgpack_object *map) {
    const msgpack_object *shards = value_at(map, "shards");
    value_text(map, "cluster_id", s->cluster, sizeof s->cluster);
    for (uint32_t i = 0; i < value_count(shards) && s->places_count < CLI_TOKENS_MAX; i++) {
        const msgpack_object *shard = value_item(shards, i);
        s->places[s->places_count++] = (struct cli_place){
            .shard = (uint32_t)value_int(shard, "shard", 0),
            .index = (uint64_t)value_int(shard, "index", 0),
            .commit = (uint64_t)value_int(shard, "commit", 0),
            .age_ms = value_int(shard, "age_ms", INT64_MAX)};
    }
}

/* [1, 0, [[0, 0, 0, 0, 0, {...}]], ...] */
static void *status_main(void *arg) {
    static const uint8_t request[] = {0x93, PROTOCOL_VERSION, 0xc0, 0x91, 0x91,
                                      NODE_COMMAND_STATUS};
    struct status_call *call = arg;
    void *reply = NULL;
    size_t bytes = 0, offset = 0;
    bool sent;
    char error[256];
    if (!raw_call(call->status->url, call->timeout_ms, request, sizeof request, &reply, &bytes,
                  &sent, error, sizeof error))
        return NULL;
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, reply, bytes, &offset) == MSGPACK_UNPACK_SUCCESS) {
        const msgpack_object *results = value_item(&unpacked.data, 2);
        const msgpack_object *map = value_item(value_item(results, 0), 5);
        call->status->answered = value_bool(map, "replica", false);
        call->status->node = !call->status->answered && value_at(map, "node_id");
        if (call->status->answered) status_read(call->status, map);
        const msgpack_object *code = value_item(&unpacked.data, 1);
        call->status->refused = code && code->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
                                code->via.u64 != 0;
    }
    msgpack_unpacked_destroy(&unpacked);
    free(reply);
    return NULL;
}

uint32_t cli_replicas_ask(struct cli *cli, const char *replicas,
                          struct cli_replica_status **list) {
    struct status_call calls[CLI_REPLICAS_MAX];
    uint32_t count = 0;
    *list = calloc(CLI_REPLICAS_MAX, sizeof **list);
    if (!*list) return 0;
    for (const char *at = replicas; count < CLI_REPLICAS_MAX; at++) {
        size_t size = strcspn(at, ",");
        struct cli_replica_status *s = *list + count;
        if (size > 0 && size < sizeof s->url) {
            memcpy(s->url, at, size);
            calls[count++] = (struct status_call){
                .status = s, .timeout_ms = cli->timeout_ms < STATUS_PATIENCE_MS
                                               ? cli->timeout_ms : STATUS_PATIENCE_MS};
        }
        at += size;
        if (*at == 0) break;
    }
    for (uint32_t i = 0; i < count; i++)
        calls[i].threaded = i + 1 < count && pthread_create(&calls[i].thread, NULL, status_main,
                                                            &calls[i]) == 0;
    for (uint32_t i = 0; i < count; i++)
        if (!calls[i].threaded) status_main(&calls[i]);
    for (uint32_t i = 0; i < count; i++)
        if (calls[i].threaded) pthread_join(calls[i].thread, NULL);
    return count;
}

int cli_replicas_agree(struct cli *cli, struct cli_cluster_of *cluster,
                       const struct cli_replica_status *list, uint32_t count) {
    const char *node = NULL;
    bool answered = false;
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].node) node = list[i].url;
        if (!list[i].answered) continue;
        answered = true;
        if (!cli_cluster_agrees(cli, cluster, list[i].cluster, "the replica at %.256s",
                                list[i].url))
            return CLI_REFUSED;
    }
    if (answered) return CLI_DONE;
    if (node) return cli_wrong_server(cli, "--replica", CLI_NODE, node);
    /* A feed knows neither: who asks it for orders would be told so when the time is over. */
    for (uint32_t i = 0; i < count; i++)
        if (list[i].refused && cli_server_at(cli, list[i].url) == CLI_FEED)
            return cli_wrong_server(cli, "--replica", CLI_FEED, list[i].url);
    return CLI_DONE;
}

/* -- tokens ------------------------------------------------------------------------------------ */

bool cli_tokens_name_all(struct cli *cli, const jumun_token *tokens, uint32_t tokens_count,
                         const struct cli_place *places, uint32_t places_count) {
    char shards[256] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < places_count && used + 16 < sizeof shards; i++)
        used += (size_t)snprintf(shards + used, sizeof shards - used, "%s%u", i ? ", " : "",
                                 places[i].shard);
    for (uint32_t t = 0; t < tokens_count; t++) {
        bool known = false;
        for (uint32_t i = 0; i < places_count; i++)
            known = known || places[i].shard == tokens[t].shard;
        if (known) continue;
        cli_error(cli, "--since: there is no shard %u; those of this cluster are %s",
                  tokens[t].shard, shards);
        return false;
    }
    for (uint32_t i = 0; i < places_count; i++) {
        bool named = false;
        for (uint32_t t = 0; t < tokens_count; t++)
            named = named || places[i].shard == tokens[t].shard;
        if (named) continue;
        cli_error(cli, "--since: shard %u is not named, and this cluster has %s: name them all "
                  "(%u:0 = from its beginning)", places[i].shard, shards, places[i].shard);
        return false;
    }
    return true;
}
