/* jumun replica: looking after one replica. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/cli_query.h"
#include "clients/cli/cli_replica.h"
#include "clients/cli/progress.h"
#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "clients/sdk/query_reply.h"
#include "clients/sdk/raw_call.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/query_protocol.h"

enum { REPLICA_LOOK_MS = 200, REPLICA_OLD_MS = 2000 };

static int look_at(struct cli *cli, jumun_queries *q, struct cli_look *look) {
    int code = cli_look(q, look);
    return code == JUMUN_OK ? CLI_DONE : cli_query_failed(cli, code, look->answer);
}

/* NULL after the error was printed: only one can be meant. */
static const char *one_replica(struct cli *cli) {
    const char *replica = cli_replicas(cli);
    if (!strchr(replica, ',')) return replica;
    cli_usage(cli, "--replica: one at a time, not %.100s", replica);
    return NULL;
}

/* -- rebuild ----------------------------------------------------------------------------------- */

/* A rebuild, as it was asked for and as it went. */
struct rebuild {
    struct cli *cli;
    const char *replica, *view;
    int64_t generation;        /* that answers until it is done */
    bool under_way;            /* before it was asked for */
    int64_t orders;            /* that it was made of, once it is done */
    int64_t age_ms;            /* of the newest of them; -1 = not known */
};

static int rebuild_refused(struct rebuild *b, const struct query_result *result) {
    char text[128];
    text_printable(text, sizeof text, result->sentence, result->sentence_bytes);
    if (b->cli->json)
        cli_print_json(json_pack("{s:i, s:s, s:s}", "code", result->code, "name",
                                 jumun_result_name(result->code), "text", text));
    cli_error(b->cli, "refused [%d %s]: %s", result->code, jumun_result_name(result->code), text);
    return CLI_REFUSED;
}

static int rebuild_reply(struct rebuild *b, const void *bytes, size_t size) {
    struct query_reply *reply = malloc(sizeof *reply);
    struct query_result result;
    msgpack_unpacked unpacked;
    size_t offset = 0;
    int status = CLI_NO_ANSWER;
    msgpack_unpacked_init(&unpacked);
    if (!reply || query_reply_open(reply, bytes, size) != QUERY_REPLY_RESULTS ||
        reply->count != 1 || !query_reply_next(reply, &result)) {
        cli_error(b->cli, "%s: it does not speak this protocol", b->replica);
    } else if (result.code != JUMUN_OK) {
        status = rebuild_refused(b, &result);
    } else if (msgpack_unpack_next(&unpacked, result.value, result.value_bytes, &offset) ==
               MSGPACK_UNPACK_SUCCESS) {
        b->generation = value_int(&unpacked.data, "generation", 0);
        b->under_way = value_bool(&unpacked.data, "under_way", false);
        status = CLI_DONE;
    }
    msgpack_unpacked_destroy(&unpacked);
    free(reply);
    return status;
}

static int rebuild_begin(struct rebuild *b) {
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
    msgpack_write_str(&w, b->view, (uint32_t)strnlen(b->view, 64));
    if (!raw_call(b->replica, b->cli->timeout_ms, request, msgpack_writer_size(&w), &reply, &size,
                  &sent, error, sizeof error)) {
        cli_error(b->cli, "%s: %s", b->replica, error);
        return CLI_NO_ANSWER;
    }
    int status = rebuild_reply(b, reply, size);
    free(reply);
    return status;
}

/* The end of the replica's process is the end of a rebuild, too. */
static int rebuild_lost(const struct rebuild *b) {
    cli_error(b->cli, "%s: view %s is not being rebuilt any more: the replica was started anew "
              "meanwhile. The rebuild is to be asked for again; until then what was before answers",
              b->replica, b->view);
    return CLI_NO_ANSWER;
}

/* Each time that the disk becomes full. */
static void rebuild_tell_room(const struct rebuild *b, const msgpack_object *status, bool *full) {
    bool now = value_bool(status, "no_room", false);
    if (now && !*full)
        cli_error(b->cli, "%s: it has no room on its disk (%s): the rebuild goes on when there is "
                  "some", b->replica, b->view);
    *full = now;
}

/* Until a newer generation answers. */
static int rebuild_await(struct rebuild *b, jumun_queries *q) {
    const struct timespec pause = {.tv_nsec = REPLICA_LOOK_MS * 1000000L};
    char generation[160], building[160], built[160];
    struct progress progress;
    int64_t of = 0, done = 0;
    bool full = false;
    int status, idle = 0; /* looks at which nothing was built, in a row */
    snprintf(generation, sizeof generation, "generations.%.100s", b->view);
    snprintf(building, sizeof building, "building.%.100s", b->view);
    snprintf(built, sizeof built, "built.%.100s", b->view);
    progress_start(&progress, b->cli->quiet ? NULL : stderr, "rebuilding", "orders",
                   b->cli->color_errors);
    for (;;) {
        struct cli_look look;
        status = look_at(b->cli, q, &look);
        bool over = value_int(look.map, generation, b->generation) > b->generation;
        of = value_int(look.map, "views.orders", of);
        /* At its end: how many there were in the transaction that switched. */
        done = over ? value_int(look.map, built, of) : value_int(look.map, building, done);
        if (over) b->age_ms = (int64_t)cli_age(look.answer);
        idle = value_int(look.map, building, -1) < 0 ? idle + 1 : 0;
        if (status == CLI_DONE && !over) rebuild_tell_room(b, look.map, &full);
        cli_look_end(&look);
        if (status != CLI_DONE || over) break;
        /* Its end may have come between the two numbers of one status, not of two. */
        if (idle == 2) status = rebuild_lost(b);
        if (status != CLI_DONE) break;
        progress_update(&progress, of > done ? (double)done / (double)of : -1, (uint64_t)done, "");
        nanosleep(&pause, NULL);
    }
    progress_end(&progress, status == CLI_DONE ? 1 : -1, (uint64_t)done, "");
    b->orders = done;
    return status;
}

static int rebuild_told(const struct rebuild *b, bool waited) {
    char count[TEXT_BYTES], span[TEXT_BYTES];
    if (waited && (b->age_ms < 0 || b->age_ms >= REPLICA_OLD_MS))
        cli_error(b->cli, "%s: it is made of the orders that the replica has, as of %s ago: it is "
                  "behind, or hears nothing of its nodes", b->replica,
                  b->age_ms < 0 ? "an unknown time" : text_span(span, b->age_ms));
    if (b->cli->json) {
        json_t *json = json_pack("{s:s, s:s, s:b, s:b, s:I}", "replica", b->replica, "view",
                                 b->view, "done", waited, "under_way", b->under_way, "generation",
                                 (json_int_t)b->generation + waited);
        if (waited) json_object_set_new(json, "orders", json_integer((json_int_t)b->orders));
        return cli_print_json(json);
    }
    if (b->cli->quiet) return CLI_DONE;
    if (waited)
        printf("%s: view %s is rebuilt of the replica's %s order%s and answers\n", b->replica,
               b->view, text_count(count, (uint64_t)b->orders), text_plural((uint64_t)b->orders));
    else
        printf("%s: view %s is being rebuilt%s; jumun replica views shows how far it is\n",
               b->replica, b->view, b->under_way ? " already" : "");
    return CLI_DONE;
}

static int rebuild_run(struct rebuild *b, jumun_queries *q) {
    bool waits = !args_flag(&b->cli->args, "no-wait");
    struct cli_look look;
    /* What it is that answers there; and it cannot be rebuilt of what nobody has. */
    int status = look_at(b->cli, q, &look);
    cli_look_end(&look);
    if (status == CLI_DONE) status = rebuild_begin(b);
    if (status == CLI_DONE && waits && b->under_way && !b->cli->quiet)
        fprintf(stderr, "%s: view %s is being rebuilt already: waiting for that\n", b->replica,
                b->view);
    if (status == CLI_DONE && waits) status = rebuild_await(b, q);
    return status == CLI_DONE ? rebuild_told(b, waits) : status;
}

int cli_replica_rebuild(struct cli *cli) {
    struct rebuild b = {.cli = cli, .replica = one_replica(cli), .view = cli_word(cli, 0)};
    if (!b.replica) return CLI_USAGE;
    jumun_queries *q = cli_queries(cli, b.replica);
    if (!q) return CLI_USAGE;
    int status = rebuild_run(&b, q);
    jumun_queries_close(q);
    return status;
}

/* -- views ------------------------------------------------------------------------------------- */

/* The number of a view in a map of the status; -1 = it has none there. */
static int64_t views_number(const msgpack_object *status, const char *map, const char *view) {
    char path[160];
    snprintf(path, sizeof path, "%s.%.100s", map, view);
    return value_int(status, path, -1);
}

static void views_row(struct table *table, const msgpack_object *status, const char *name) {
    char text[TEXT_BYTES], of[TEXT_BYTES];
    int64_t generation = views_number(status, "generations", name);
    int64_t bytes = views_number(status, "view_bytes", name);
    int64_t done = views_number(status, "building", name);
    int64_t rows = views_number(status, "views", name);
    table_cell(table, NULL, "%s", name);
    table_cell(table, NULL, "%s", rows < 0 ? "-" : text_count(text, (uint64_t)rows));
    table_cell(table, NULL, "%s", bytes < 0 ? "-" : text_size(text, (uint64_t)bytes));
    if (generation < 0) table_cell(table, NULL, "-");
    else table_cell(table, NULL, "%" PRId64, generation);
    if (done < 0)
        table_cell(table, "32", "ready");
    else
        table_cell(table, "33", "%s: %s of %s orders",
                   generation > 0 ? "being rebuilt" : "being built",
                   text_count(text, (uint64_t)done),
                   text_count(of, (uint64_t)value_int(status, "views.orders", 0)));
}

void cli_replica_views_print(const struct cli *cli, const msgpack_object *status, int indent) {
    static const char *const heads[] = {"view", "rows", "size", "generation", "state"};
    const msgpack_object *views = value_at(status, "views");
    const msgpack_object *generations = value_at(status, "generations");
    struct table *table = table_new("lrrrl", cli->color);
    char name[64];
    if (!cli->quiet) table_heading(table);
    for (int i = 0; i < 5 && !cli->quiet; i++) table_cell(table, NULL, "%s", heads[i]);
    bool some = views && views->type == MSGPACK_OBJECT_MAP;
    for (uint32_t i = 0; some && i < views->via.map.size; i++)
        views_row(table, status, value_show(&views->via.map.ptr[i].key, name, sizeof name));
    /* One that is being built for the first time has no rows yet. */
    some = generations && generations->type == MSGPACK_OBJECT_MAP;
    for (uint32_t i = 0; some && i < generations->via.map.size; i++) {
        value_show(&generations->via.map.ptr[i].key, name, sizeof name);
        if (views_number(status, "views", name) < 0) views_row(table, status, name);
    }
    table_print(table, stdout, indent);
    table_delete(table);
    if (value_int(status, "applier.unwritten_bytes", 0) > 0)
        printf("%*s%sand what changed within the last seconds: it answers from memory, and is "
               "written soon%s\n", indent, "", CLI_STYLE(cli, "2"), CLI_PLAIN(cli));
}

int cli_replica_views(struct cli *cli) {
    const char *replica = one_replica(cli);
    struct cli_look look;
    if (!replica) return CLI_USAGE;
    jumun_queries *q = cli_queries(cli, replica);
    if (!q) return CLI_USAGE;
    int status = look_at(cli, q, &look);
    if (status == CLI_DONE && cli->json) {
        json_t *json = json_object();
        static const char *const names[] = {"views", "view_bytes", "generations", "building"};
        for (int i = 0; i < 4; i++)
            json_object_set_new(json, names[i], value_to_json(value_at(look.map, names[i])));
        cli_print_json(json);
    } else if (status == CLI_DONE) {
        cli_replica_views_print(cli, look.map, 0);
    }
    cli_look_end(&look);
    jumun_queries_close(q);
    return status;
}
