/* jumun import --full: all orders of a snapshot that a replica made for it, page by page. */
#include "clients/cli/cli_rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "actors/result_codes.h"
#include "clients/cli/cli_stop.h"
#include "clients/cli/cli_unreached.h"
#include "clients/cli/output.h"
#include "clients/cli/progress.h"
#include "clients/cli/text.h"
#include "clients/sdk/raw_call.h"
#include "engine/wire/feed_decode.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"

enum {
    IMPORT_PAGE = 500,
    IMPORT_PAGE_S = 5,             /* that a page may last with --rate: the snapshot is asked for
                                      again before it could go */
    IMPORT_BEGIN_MS = 300000,
    IMPORT_GIVE_BACK_MS = 2000
};

#define IMPORT_SAVE_NS 1000000000u

struct import {
    struct cli *cli;
    struct rows rows;
    struct rows_state state;
    struct cli_cluster_of cluster;
    const char *tokens_path;   /* NULL = none */
    bool kept;                 /* the tokens tell where the snapshot is to be gone on with */
    bool unsaved;              /* whole pages came since the tokens were written */
    uint64_t saved_ns;         /* when; 0 = never */
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

/* Asks the replica of the state for a snapshot. Else the reason is in `error`; *status says of what
 * kind it is, *answered whether anybody is there. */
static bool import_begin_at(struct import *im, int *status, bool *answered, char *error,
                            size_t error_bytes) {
    void *reply = NULL;
    size_t bytes = 0;
    struct feed_reply r;
    *status = CLI_NO_ANSWER;
    *answered = import_ask(im, FEED_SNAPSHOT_BEGIN, 0, IMPORT_BEGIN_MS, &reply, &bytes, error,
                           error_bytes);
    if (!*answered) return false;
    bool ok = feed_reply_decode(reply, bytes, FEED_SNAPSHOT_BEGIN, FEED_RECORDS, &r);
    bool begun = ok && r.code == 0 && import_tokens(im, r.rest);
    if (begun) im->state.snapshot = r.snapshot;
    else if (ok && r.code)
        text_printable(error, error_bytes, r.sentence.data, r.sentence.size);
    else
        snprintf(error, error_bytes, "it does not speak this protocol");
    if (ok && r.code) *status = CLI_REFUSED;
    free(reply);
    return begun;
}

/* What keeps it from being reached, where that can be found out, in place of `error`. */
static void import_unreached(const struct import *im, char error[REACH_SENTENCE_BYTES]) {
    char sentence[REACH_SENTENCE_BYTES];
    const char *why = cli_unreached_why(im->state.replica, NULL, sentence);
    if (why) snprintf(error, REACH_SENTENCE_BYTES, "%s", why);
}

/* The first replica that makes a snapshot; when none does, each is told of with its reason. One
 * that refused is more than one that is away. */
static int import_begin(struct import *im) {
    struct {
        char replica[ENDPOINT_BYTES_MAX], error[REACH_SENTENCE_BYTES];
        enum cli_server there;
    } why[CLI_REPLICAS_MAX];
    const char *at = cli_replicas(im->cli);
    uint32_t count = 0, wrong = 0;
    int status = CLI_NO_ANSWER;
    for (; count < CLI_REPLICAS_MAX; at += strcspn(at, ",") + 1) {
        size_t size = strcspn(at, ",");
        int one;
        bool answered;
        char *error = why[count].error;
        snprintf(im->state.replica, sizeof im->state.replica, "%.*s", (int)size, at);
        if (import_begin_at(im, &one, &answered, error, sizeof why->error)) return CLI_DONE;
        memcpy(why[count].replica, im->state.replica, sizeof im->state.replica);
        if (!answered) import_unreached(im, error);
        why[count].there = answered ? cli_server_at(im->cli, im->state.replica) : CLI_REPLICA;
        if (one == CLI_REFUSED && why[count].there == CLI_REPLICA) status = one;
        wrong += why[count++].there != CLI_REPLICA;
        if (at[size] == '\0' || cli_stop_asked()) break;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (why[i].there != CLI_REPLICA)
            cli_wrong_server(im->cli, "--replica", why[i].there, why[i].replica);
        else
            cli_error(im->cli, "%s: no snapshot: %s", why[i].replica, why[i].error);
    }
    return wrong == count ? CLI_USAGE : status;
}

/* The replica need not keep it until it notices that nobody asks. */
static void import_give_back(struct import *im) {
    void *reply = NULL;
    size_t bytes;
    char error[256];
    uint32_t patience_ms = im->cli->timeout_ms < IMPORT_GIVE_BACK_MS ? im->cli->timeout_ms
                                                                     : IMPORT_GIVE_BACK_MS;
    if (im->state.snapshot && import_ask(im, FEED_SNAPSHOT_END, im->state.snapshot, patience_ms,
                                         &reply, &bytes, error, sizeof error))
        free(reply);
}

/* To wait for the disk at each page would double what a copy lasts: whoever is killed in between
 * copies a second's pages once more. */
static bool import_save_is_due(const struct import *im) {
    return im->state.done || im->saved_ns == 0 || cli_stop_asked() ||
           text_mono_ns() - im->saved_ns >= IMPORT_SAVE_NS;
}

/* What the state tells of is on the disk first. */
static int import_save(struct import *im) {
    if (!im->tokens_path || !im->unsaved) return CLI_DONE;
    if (!rows_sync(&im->rows)) return rows_failed(im->cli, &im->rows);
    im->kept = rows_state_save(im->tokens_path, &im->state);
    im->unsaved = !im->kept;
    im->saved_ns = text_mono_ns();
    if (im->kept) return CLI_DONE;
    cli_error(im->cli, "%s: cannot be written", im->tokens_path);
    return CLI_BAD_FILE;
}

static uint32_t import_page_rows(const struct import *im) {
    int64_t rows = im->rows.per_second * IMPORT_PAGE_S;
    return rows == 0 || rows > IMPORT_PAGE ? IMPORT_PAGE : (uint32_t)rows;
}

/* What was in the output before goes only now that something came. */
static int import_page(struct import *im, const jumun_answer *a, bool first) {
    if (first && !rows_begin(im->cli, &im->rows, im->rows.bytes)) return CLI_BAD_FILE;
    if (!rows_write(&im->rows, a) || !rows_flush(&im->rows)) return rows_failed(im->cli, &im->rows);
    im->state.cursor_bytes = a->cursor ? a->cursor_bytes : 0;
    if (a->cursor) memcpy(im->state.cursor, a->cursor, a->cursor_bytes);
    im->state.done = a->cursor == NULL;
    im->state.bytes = im->rows.bytes;
    im->state.rows = im->rows.written;
    im->unsaved = true;
    progress_update(&im->progress, -1, im->rows.written, "");
    return import_save_is_due(im) ? import_save(im) : CLI_DONE;
}

static int import_pages(struct import *im) {
    jumun_query q = {.kind = JUMUN_EXPORT, .snapshot = im->state.snapshot,
                     .limit = import_page_rows(im), .fields = im->rows.fields,
                     .fields_count = im->rows.fields_count};
    q.demand.any_state = true;
    int status = CLI_DONE;
    for (bool first = true; status == CLI_DONE && !im->state.done; first = false) {
        jumun_answer *a;
        q.cursor = im->state.cursor_bytes ? im->state.cursor : NULL;
        q.cursor_bytes = im->state.cursor_bytes;
        int code = jumun_query_run(im->queries, &q, &a);
        if (code == JUMUN_OK) status = import_page(im, a, first);
        else if (!cli_stop_asked()) status = cli_query_failed(im->cli, code, a);
        jumun_answer_free(a);
        if (code == RESULT_SNAPSHOT_GONE) {
            im->kept = false;
            fprintf(stderr, "%s has not kept it: --restart begins anew.\n", im->state.replica);
        }
        if (status == CLI_DONE && !im->state.done && cli_stop_asked()) status = CLI_NO_ANSWER;
    }
    if (status != CLI_DONE && im->kept && !ferror(im->rows.out)) import_save(im);
    return status;
}

/* -- where to begin ---------------------------------------------------------------------------- */

static bool import_names_replica(const struct import *im) {
    size_t size = strlen(im->state.replica);
    for (const char *at = cli_replicas(im->cli); *at; at += *at == ',') {
        size_t next = strcspn(at, ",");
        if (next == size && strncmp(at, im->state.replica, size) == 0) return true;
        at += next;
    }
    return false;
}

/* CLI_DONE: *resumed says whether the copy that the tokens tell of goes on. */
static int import_look_back(struct import *im, bool *resumed) {
    struct cli *cli = im->cli;
    bool exists = false, restart = args_flag(&cli->args, "restart");
    *resumed = false;
    if (!im->tokens_path) return CLI_DONE;
    rows_state_load(im->tokens_path, &im->state, &exists);
    if (!rows_state_is_ours(cli, im->tokens_path, &im->state, "import ")) return CLI_BAD_FILE;
    if (!rows_state_is_stopped(&im->state)) {
        memset(&im->state, 0, sizeof im->state);
        return CLI_DONE;
    }
    if (restart) {
        import_give_back(im);
        memset(&im->state, 0, sizeof im->state);
        return CLI_DONE;
    }
    if (!rows_state_fits(cli, im->tokens_path, &im->state, &im->rows)) return CLI_BAD_FILE;
    if (im->rows.path[0] == 0) {
        cli_error(cli, "%s is of a full copy that was stopped behind %" PRIu64 " orders. What went "
                  "to standard output cannot be gone on with: begin anew with --restart, and give "
                  "--output FILE to be able to", im->tokens_path, im->state.rows);
        return CLI_BAD_FILE;
    }
    if (im->rows.regular && im->rows.there < im->state.bytes) {
        cli_error(cli, "%s has %" PRIu64 " bytes, fewer than the %" PRIu64 " that the copy had "
                  "come to: begin anew with --restart", im->rows.path, im->rows.there,
                  im->state.bytes);
        return CLI_BAD_FILE;
    }
    if (!import_names_replica(im)) {
        cli_error(cli, "%s is of a copy that was begun at %s, where its snapshot is; this names "
                  "%s. Name that one, or begin anew with --restart", im->tokens_path,
                  im->state.replica, cli_replicas(cli));
        return CLI_BAD_FILE;
    }
    im->kept = *resumed = true;
    return CLI_DONE;
}

/* Whose orders it copies: the tokens tell whoever goes on with them. */
static int import_whose(struct import *im, bool resumed) {
    struct cli_replica_status *list;
    uint32_t count = cli_replicas_ask(im->cli, im->state.replica, &list);
    int status = CLI_DONE;
    if (resumed && !cli_cluster_agrees(im->cli, &im->cluster, im->state.cluster, "%.300s",
                                       im->tokens_path))
        status = CLI_BAD_FILE;
    if (status == CLI_DONE) status = cli_replicas_agree(im->cli, &im->cluster, list, count);
    free(list);
    memcpy(im->state.cluster, im->cluster.id, sizeof im->state.cluster);
    return status;
}

static int import_copy(struct import *im, bool resumed) {
    im->rows.bytes = resumed ? im->state.bytes : 0;
    uint64_t before = im->rows.written = resumed ? im->state.rows : 0;
    if (resumed && !im->cli->quiet)
        fprintf(stderr, "going on behind %" PRIu64 " order%s, at %s\n", before,
                before == 1 ? "" : "s", im->state.replica);
    im->rows.written_before = before;
    rows_state_describe(&im->state, &im->rows, "import --full");
    if (!(im->queries = cli_queries(im->cli, im->state.replica))) return CLI_USAGE;
    progress_start(&im->progress, im->cli->quiet ? NULL : stderr, "copying", "orders",
                   im->cli->color_errors);
    int status = import_pages(im);
    if (status == CLI_DONE || im->rows.written > before)
        progress_end(&im->progress, status == CLI_DONE ? 1 : -1, im->rows.written, "");
    return status;
}

/* The end, however it came: the snapshot is kept for who can go on with it, and for nobody else. */
static void import_end(struct import *im, int status) {
    bool goes_on = status != CLI_DONE && im->kept && im->rows.path[0] && !im->state.done;
    if (!goes_on) import_give_back(im);
    if (status == CLI_DONE && !im->cli->quiet) {
        fputs("as of ", stderr);
        cli_tokens_print(im->state.tokens, im->state.tokens_count, stderr);
        fputc('\n', stderr);
    }
    bool enough = status == CLI_DONE || status == OUTPUT_READER_GONE;
    if (enough || im->rows.written == 0 || im->cli->quiet) return;
    if (!goes_on)
        fprintf(stderr, "Stopped behind %" PRIu64 " order%s. With --tokens and --output a copy can "
                "be gone on with.\n", im->rows.written, im->rows.written == 1 ? "" : "s");
    else
        fprintf(stderr, "Stopped behind %" PRIu64 " order%s. The same command goes on there, as "
                "long as %s keeps the snapshot: 5 minutes, or 30 s when others need the place.\n",
                im->state.rows, im->state.rows == 1 ? "" : "s", im->state.replica);
}

static int import_full(struct import *im, const char *output) {
    bool resumed;
    if (!rows_open(im->cli, &im->rows, output)) return CLI_BAD_FILE;
    int status = import_look_back(im, &resumed);
    if (status != CLI_DONE) return status;
    cli_stop_catch();
    if (!resumed) status = import_begin(im);
    if (status != CLI_DONE) return status;
    status = cli_stop_asked() ? CLI_NO_ANSWER : import_whose(im, resumed);
    if (status == CLI_DONE) status = import_copy(im, resumed);
    import_end(im, status);
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
        cli_usage(cli, full ? "only one of --full and --since may be given"
                            : "one of --full and --since is needed");
    } else if (full && args_flag(&cli->args, "append")) {
        cli_usage(cli, "--append is for --since: a full copy replaces what is in the output");
    } else if (!rows_options(cli, &im->rows)) {
        status = CLI_USAGE;
    } else if (im->tokens_path && (lock = rows_state_lock(cli, im->tokens_path)) < 0) {
        status = CLI_BAD_FILE;
    } else {
        status = full ? import_full(im, output)
                      : cli_import_since(cli, &im->rows, since, output, im->tokens_path);
    }
    if (!rows_close(&im->rows) && status == CLI_DONE) {
        cli_error(cli, "the output cannot be written");
        status = CLI_BAD_FILE;
    }
    rows_state_unlock(im->tokens_path, lock);
    if (im->queries) jumun_queries_close(im->queries);
    free(im);
    if (status != CLI_DONE) cli_stop_obey();
    return status;
}
