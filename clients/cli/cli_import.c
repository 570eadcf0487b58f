/* jumun import --full: all orders of a snapshot that a replica made for it, page by page. */
#include "clients/cli/cli_rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/progress.h"
#include "clients/cli/text.h"
#include "clients/sdk/raw_call.h"
#include "engine/wire/feed_decode.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"

enum { IMPORT_PAGE = 500, IMPORT_BEGIN_MS = 300000 };

struct import {
    struct cli *cli;
    struct rows rows;
    struct rows_state state;
    const char *tokens_path;   /* NULL = none */
    jumun_queries *queries;
    struct progress progress;
};

/* A request to the replica's feed side, [version, kind, argument], and its reply. */
static bool import_ask(struct import *im, uint32_t kind, uint64_t id, uint32_t timeout_ms,
                       void **reply, size_t *bytes, char *error, size_t error_bytes) {
    uint8_t request[64];
    struct msgpack_writer w;
    bool sent;
    msgpack_writer_init(&w, request, sizeof request);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, FEED_VERSION);
    msgpack_write_uint(&w, kind);
    if (kind == FEED_SNAPSHOT_BEGIN) msgpack_write_nil(&w);
    else msgpack_write_uint(&w, id);
    return raw_call(im->state.replica, timeout_ms, request, msgpack_writer_size(&w), reply, bytes,
                    &sent, error, error_bytes);
}

static bool import_tokens(struct import *im, struct bytes list) {
    struct msgpack_reader r;
    uint32_t count, pair;
    uint64_t shard;
    msgpack_reader_init(&r, list.data, list.size);
    if (msgpack_read_array(&r, &count) != MSGPACK_OK || count > CLI_TOKENS_MAX) return false;
    im->state.tokens_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (msgpack_read_array(&r, &pair) != MSGPACK_OK || pair < 2 ||
            msgpack_read_uint_upto(&r, UINT16_MAX, &shard) != MSGPACK_OK ||
            msgpack_read_uint(&r, &im->state.tokens[i].index) != MSGPACK_OK)
            return false;
        im->state.tokens[i].shard = (uint32_t)shard;
        while (pair-- > 2)
            if (msgpack_skip(&r) != MSGPACK_OK) return false;
    }
    return true;
}

/* The first replica that makes a snapshot. */
static int import_begin(struct import *im) {
    const char *at = cli_replicas(im->cli);
    char error[256] = "no replica is named";
    int status = CLI_NO_ANSWER;
    for (;; at += strcspn(at, ",") + 1) {
        void *reply = NULL;
        size_t bytes = 0, size = strcspn(at, ",");
        struct feed_reply r;
        snprintf(im->state.replica, sizeof im->state.replica, "%.*s", (int)size, at);
        if (import_ask(im, FEED_SNAPSHOT_BEGIN, 0, IMPORT_BEGIN_MS, &reply, &bytes, error,
                       sizeof error)) {
            bool ok = feed_reply_decode(reply, bytes, FEED_SNAPSHOT_BEGIN, FEED_RECORDS, &r);
            if (ok && r.code == 0 && import_tokens(im, r.rest)) {
                im->state.snapshot = r.snapshot;
                free(reply);
                return CLI_DONE;
            }
            status = ok && r.code ? CLI_REFUSED : CLI_NO_ANSWER;
            if (ok && r.code)
                text_printable(error, sizeof error, r.sentence.data, r.sentence.size);
            else
                snprintf(error, sizeof error, "it does not speak this protocol");
            free(reply);
        }
        if (at[size] == '\0') break;
    }
    if (cli_is_node(im->cli, im->state.replica))
        return cli_wrong_server(im->cli, CLI_NODE, im->state.replica);
    cli_error(im->cli, "%s: no snapshot: %s", im->state.replica, error);
    return status;
}

static bool import_save(struct import *im) {
    if (!im->tokens_path) return true;
    im->state.bytes = im->rows.bytes;
    im->state.rows = im->rows.written;
    if (rows_flush(&im->rows) && rows_state_save(im->tokens_path, &im->state)) return true;
    cli_error(im->cli, "%s: cannot be written", im->tokens_path);
    return false;
}

static int import_pages(struct import *im) {
    jumun_query q = {.kind = JUMUN_EXPORT, .snapshot = im->state.snapshot, .limit = IMPORT_PAGE,
                     .fields = im->rows.fields, .fields_count = im->rows.fields_count};
    q.demand.any_state = true;
    for (;;) {
        jumun_answer *a;
        q.cursor = im->state.cursor_bytes ? im->state.cursor : NULL;
        q.cursor_bytes = im->state.cursor_bytes;
        int code = jumun_query_run(im->queries, &q, &a), status = CLI_DONE;
        if (code != JUMUN_OK) status = cli_query_failed(im->cli, code, a);
        else if (!rows_write(&im->rows, a)) status = CLI_BAD_FILE;
        bool more = a && a->cursor != NULL;
        if (status == CLI_DONE) {
            im->state.cursor_bytes = more ? a->cursor_bytes : 0;
            if (more) memcpy(im->state.cursor, a->cursor, a->cursor_bytes);
            im->state.done = !more;
        }
        jumun_answer_free(a);
        if (status == CLI_BAD_FILE) cli_error(im->cli, "the output cannot be written");
        if (status != CLI_DONE) return status;
        progress_update(&im->progress, -1, im->rows.written, "");
        if (!import_save(im)) return CLI_BAD_FILE;
        if (!more) return CLI_DONE;
    }
}

static int import_full(struct import *im, const char *output) {
    bool exists = false, resumed = false;
    int status = CLI_DONE;
    if (im->tokens_path && output && rows_state_load(im->tokens_path, &im->state, &exists))
        resumed = !im->state.done && im->state.snapshot != 0;
    if (!resumed) {
        memset(&im->state, 0, sizeof im->state);
        if ((status = import_begin(im)) != CLI_DONE) return status;
    } else if (!im->cli->quiet) {
        fprintf(stderr, "going on behind %" PRIu64 " orders\n", im->state.rows);
    }
    if (!rows_open(im->cli, &im->rows, output, resumed ? im->state.bytes : 0)) return CLI_BAD_FILE;
    uint64_t before = im->rows.written = resumed ? im->state.rows : 0;
    if (before && im->rows.per_second)
        im->rows.started_ns -= (uint64_t)((double)before * 1e9 / (double)im->rows.per_second);
    if (!(im->queries = cli_queries(im->cli, im->state.replica))) return CLI_USAGE;
    progress_start(&im->progress, im->cli->quiet ? NULL : stderr, "copying", "orders",
                   im->cli->color_errors);
    status = import_save(im) ? import_pages(im) : CLI_BAD_FILE;
    progress_end(&im->progress, status == CLI_DONE ? 1 : -1, im->rows.written, "");
    if (!rows_close(&im->rows) && status == CLI_DONE) status = CLI_BAD_FILE;
    if (status == CLI_DONE) {
        void *reply = NULL;
        size_t bytes;
        char error[128];
        if (import_ask(im, FEED_SNAPSHOT_END, im->state.snapshot, im->cli->timeout_ms, &reply,
                       &bytes, error, sizeof error))
            free(reply);
        if (!im->cli->quiet) {
            fputs("as of ", stderr);
            cli_tokens_print(im->state.tokens, im->state.tokens_count, stderr);
            fputc('\n', stderr);
        }
    }
    return status;
}

int cli_import(struct cli *cli) {
    bool full = args_flag(&cli->args, "full");
    const char *since = args_value(&cli->args, "since"), *output = args_value(&cli->args, "output");
    struct import *im = calloc(1, sizeof *im);
    int status = CLI_USAGE;
    if (!im) return CLI_NO_ANSWER;
    im->cli = cli;
    im->tokens_path = args_value(&cli->args, "tokens");
    int lock = -1;
    if (full == (since != NULL)) {
        cli_usage(cli, "one of --full and --since is needed");
    } else if (!rows_options(cli, &im->rows)) {
        status = CLI_USAGE;
    } else if (im->tokens_path && (lock = rows_state_lock(cli, im->tokens_path)) < 0) {
        status = CLI_BAD_FILE;
    } else {
        status = full ? import_full(im, output)
                      : cli_import_since(cli, &im->rows, since, output, im->tokens_path);
    }
    rows_state_unlock(im->tokens_path, lock);
    if (im->queries) jumun_queries_close(im->queries);
    free(im);
    return status;
}
