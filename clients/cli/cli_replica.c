/* jumun replica: looking after one replica. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/cli_query.h"
#include "clients/cli/progress.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "clients/sdk/query_reply.h"
#include "clients/sdk/raw_call.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/query_protocol.h"

enum { REPLICA_LOOK_MS = 200 };

/* A replica's status. */
struct replica_look {
    jumun_answer *answer;
    msgpack_unpacked unpacked;
};

static int look_at(struct cli *cli, jumun_queries *q, struct replica_look *look) {
    jumun_query query = {.kind = JUMUN_REPLICA_STATUS};
    size_t offset = 0;
    int code = jumun_query_run(q, &query, &look->answer);
    msgpack_unpacked_init(&look->unpacked);
    if (code == JUMUN_OK &&
        msgpack_unpack_next(&look->unpacked, look->answer->value, look->answer->value_bytes,
                            &offset) != MSGPACK_UNPACK_SUCCESS)
        code = JUMUN_BAD_REPLY;
    return code == JUMUN_OK ? CLI_DONE : cli_query_failed(cli, code, look->answer);
}

static void look_end(struct replica_look *look) {
    msgpack_unpacked_destroy(&look->unpacked);
    jumun_answer_free(look->answer);
}

/* NULL after the error was printed: only one can be meant. */
static const char *one_replica(struct cli *cli) {
    const char *replica = cli_replicas(cli);
    if (!strchr(replica, ',')) return replica;
    cli_usage(cli, "--replica: one at a time, not %.100s", replica);
    return NULL;
}

/* -- rebuild ----------------------------------------------------------------------------------- */

/* What the reply says; CLI_DONE with the generation that answers until it is done. */
static int rebuild_reply(struct cli *cli, const char *replica, const void *bytes, size_t size,
                         int64_t *generation) {
    struct query_reply *reply = malloc(sizeof *reply);
    struct query_result result;
    msgpack_unpacked unpacked;
    size_t offset = 0;
    int status = CLI_NO_ANSWER;
    msgpack_unpacked_init(&unpacked);
    if (!reply || query_reply_open(reply, bytes, size) != QUERY_REPLY_RESULTS ||
        reply->count != 1 || !query_reply_next(reply, &result)) {
        cli_error(cli, "%s: it does not speak this protocol", replica);
    } else if (result.code != JUMUN_OK) {
        char text[128];
        text_printable(text, sizeof text, result.sentence, result.sentence_bytes);
        cli_error(cli, "refused [%d %s]: %s", result.code, jumun_result_name(result.code), text);
        status = CLI_REFUSED;
    } else if (msgpack_unpack_next(&unpacked, result.value, result.value_bytes, &offset) ==
               MSGPACK_UNPACK_SUCCESS) {
        *generation = value_int(&unpacked.data, "generation", 0);
        status = CLI_DONE;
    }
    msgpack_unpacked_destroy(&unpacked);
    free(reply);
    return status;
}

static int rebuild_begin(struct cli *cli, const char *replica, int64_t *generation) {
    uint8_t request[160];
    char error[256] = "";
    struct msgpack_writer w;
    void *reply = NULL;
    size_t size = 0;
    bool sent;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_nil(&w);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, QUERY_REBUILD);
    msgpack_write_str(&w, cli_word(cli, 0), (uint32_t)strnlen(cli_word(cli, 0), 64));
    if (!raw_call(replica, cli->timeout_ms, request, msgpack_writer_size(&w), &reply, &size, &sent,
                  error, sizeof error)) {
        cli_error(cli, "%s: %s", replica, error);
        return CLI_NO_ANSWER;
    }
    int status = rebuild_reply(cli, replica, reply, size, generation);
    free(reply);
    return status;
}

/* Until a newer generation answers. */
static int rebuild_await(struct cli *cli, jumun_queries *q, int64_t before) {
    const struct timespec pause = {.tv_nsec = REPLICA_LOOK_MS * 1000000L};
    char generation[160], building[160];
    struct progress progress;
    int64_t of = 0, done = 0;
    int status;
    snprintf(generation, sizeof generation, "generations.%.100s", cli_word(cli, 0));
    snprintf(building, sizeof building, "building.%.100s", cli_word(cli, 0));
    progress_start(&progress, cli->quiet ? NULL : stderr, "rebuilding", "orders",
                   cli->color_errors);
    for (;;) {
        struct replica_look look;
        status = look_at(cli, q, &look);
        const msgpack_object *map = status == CLI_DONE ? &look.unpacked.data : NULL;
        bool over = value_int(map, generation, before) > before;
        of = value_int(map, "views.orders", of);
        done = over ? of : value_int(map, building, done);
        look_end(&look);
        if (status != CLI_DONE || over) break;
        progress_update(&progress, of ? (double)done / (double)of : 0, (uint64_t)done, "");
        nanosleep(&pause, NULL);
    }
    progress_end(&progress, status == CLI_DONE ? 1 : -1, (uint64_t)done, "");
    return status;
}

int cli_replica_rebuild(struct cli *cli) {
    const char *replica = one_replica(cli);
    int64_t generation = 0;
    if (!replica) return CLI_USAGE;
    int status = rebuild_begin(cli, replica, &generation);
    bool waits = !args_flag(&cli->args, "no-wait");
    if (status == CLI_DONE && waits) {
        jumun_queries *q = cli_queries(cli, replica);
        if (!q) return CLI_USAGE;
        status = rebuild_await(cli, q, generation);
        jumun_queries_close(q);
    }
    if (status != CLI_DONE) return status;
    if (cli->json) {
        json_int_t now = (json_int_t)generation + waits;
        return cli_print_json(json_pack("{s:s, s:s, s:b, s:I}", "replica", replica, "view",
                                        cli_word(cli, 0), "done", waits, "generation", now));
    }
    if (!cli->quiet)
        printf("%s: view %s %s\n", replica, cli_word(cli, 0),
               waits ? "is rebuilt and answers" : "is being rebuilt");
    return CLI_DONE;
}

/* -- views ------------------------------------------------------------------------------------- */

static void views_row(struct table *table, const msgpack_object *map, const char *name,
                      int64_t rows) {
    char path[160];
    int64_t orders = value_int(map, "views.orders", 0);
    table_cell(table, NULL, "%s", name);
    table_cell(table, NULL, "%" PRId64, rows);
    snprintf(path, sizeof path, "generations.%.100s", name);
    int64_t generation = value_int(map, path, -1);
    if (generation < 0) table_cell(table, NULL, "-");
    else table_cell(table, NULL, "%" PRId64, generation);
    snprintf(path, sizeof path, "building.%.100s", name);
    int64_t done = value_int(map, path, -1);
    if (done < 0) table_cell(table, NULL, " ");
    else table_cell(table, "33", "being rebuilt: %" PRId64 " of %" PRId64 " orders", done, orders);
    table_row_end(table);
}

static void views_print(struct cli *cli, const msgpack_object *map) {
    static const char *const heads[] = {"view", "rows", "generation", ""};
    const msgpack_object *views = value_at(map, "views");
    struct table *table = table_new("lrrl", cli->color);
    table_heading(table);
    for (int i = 0; i < 4; i++) table_cell(table, NULL, "%s", heads[i]);
    for (uint32_t i = 0; views && views->type == MSGPACK_OBJECT_MAP && i < views->via.map.size;
         i++) {
        char name[64];
        const msgpack_object_kv *kv = &views->via.map.ptr[i];
        views_row(table, map, value_show(&kv->key, name, sizeof name),
                  (int64_t)kv->val.via.u64);
    }
    table_print(table, stdout, 0);
    table_delete(table);
}

int cli_replica_views(struct cli *cli) {
    const char *replica = one_replica(cli);
    struct replica_look look;
    if (!replica) return CLI_USAGE;
    jumun_queries *q = cli_queries(cli, replica);
    if (!q) return CLI_USAGE;
    int status = look_at(cli, q, &look);
    if (status == CLI_DONE && cli->json) {
        json_t *json = json_object();
        static const char *const names[] = {"views", "generations", "building"};
        for (int i = 0; i < 3; i++)
            json_object_set_new(json, names[i],
                                value_to_json(value_at(&look.unpacked.data, names[i])));
        cli_print_json(json);
    } else if (status == CLI_DONE) {
        views_print(cli, &look.unpacked.data);
    }
    look_end(&look);
    jumun_queries_close(q);
    return status;
}
