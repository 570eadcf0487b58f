/* jumun import --since: which orders changed is read from the log (their keys only), how they are
 * now from a replica that has got at least as far. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli_feed.h"
#include "clients/cli/cli_rows.h"
#include "clients/cli/cli_stop.h"
#include "clients/cli/cli_unreached.h"
#include "clients/cli/key_set.h"
#include "clients/cli/text.h"
#include "clients/cli/when.h"
#include "engine/wire/msgpack_reader.h"

enum { SINCE_KEYS_PER_QUERY = 256 };
#define SINCE_COMMAND "import --since"

struct since {
    struct cli *cli;
    struct rows *rows;
    struct cli_feed feed;
    struct cli_cluster_of cluster;
    jumun_token from[CLI_TOKENS_MAX];  /* reflected already */
    uint32_t from_count;
    bool written_down;                 /* by the user, not in a file */
    int64_t time_ms;                   /* 0 = by tokens */
    jumun_token to[CLI_TOKENS_MAX];    /* the logs' ends when it began */
    uint32_t to_count;
    bool replica_is_there;             /* one at least answered */
    struct key_set changed;            /* orders */
    struct rows_state state;           /* of --tokens, as it was and as it will be */
    bool state_is_new;                 /* there was no such file */
    uint64_t begin_bytes;              /* where it goes on in the output */
    struct cli_wait wait_replica;
};

/* -- the log ----------------------------------------------------------------------------------- */

static void request_begin(struct msgpack_writer *w, uint8_t room[128], uint32_t fields,
                          enum feed_kind kind) {
    msgpack_writer_init(w, room, 128);
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, kind);
}

/* [version, kind, shard, from, wait_ms, bytes_max, form] */
static void request_pull(struct msgpack_writer *w, uint8_t room[128], uint32_t shard,
                         uint64_t from) {
    request_begin(w, room, 7, FEED_PULL);
    msgpack_write_uint(w, shard);
    msgpack_write_uint(w, from);
    msgpack_write_uint(w, 0);
    msgpack_write_nil(w);
    msgpack_write_uint(w, FEED_MARKS);
}

/* [[index, time_ms, kind, subject, version, state], ...]: events of stores have other subjects,
 * which a replica does not know as orders and leaves out. */
static bool since_marks(struct since *s, struct bytes payload, uint64_t last) {
    struct msgpack_reader r;
    uint32_t count, fields, bytes;
    uint64_t index;
    const void *key;
    msgpack_reader_init(&r, payload.data, payload.size);
    if (msgpack_read_array(&r, &count) != MSGPACK_OK) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct msgpack_reader mark = r;
        if (msgpack_skip(&r) != MSGPACK_OK) return false;
        if (msgpack_read_array(&mark, &fields) != MSGPACK_OK || fields < 4 ||
            msgpack_read_uint(&mark, &index) != MSGPACK_OK || msgpack_skip(&mark) != MSGPACK_OK ||
            msgpack_skip(&mark) != MSGPACK_OK)
            return false;
        if (index > last || msgpack_read_bin(&mark, &key, &bytes) != MSGPACK_OK || bytes != 16)
            continue;
        if (!key_set_add(&s->changed, key)) return false;
    }
    return true;
}

/* The first entry of that time, of a node's log that holds what was decided before it, too: one
 * that begins there may have lost more. 0 after the error was printed. */
static uint64_t since_locate(struct since *s, uint32_t shard) {
    uint8_t room[128];
    struct msgpack_writer w;
    struct feed_reply reply;
    for (uint32_t i = 0; i <= s->feed.nodes_count; i++) {
        request_begin(&w, room, 4, FEED_LOCATE);
        msgpack_write_uint(&w, shard);
        msgpack_write_int(&w, s->time_ms);
        void *bytes = cli_feed_ask(&s->feed, &w, FEED_LOCATE, &reply);
        uint64_t first = bytes ? reply.next : 0;
        free(bytes);
        if (first <= 1) return first;
        uint32_t located_by = s->feed.at;
        request_pull(&w, room, shard, first - 1);
        if (!(bytes = cli_feed_ask(&s->feed, &w, FEED_PULL, &reply))) return 0;
        free(bytes);
        if (s->feed.at == located_by) return first;
    }
    s->feed.status = CLI_NO_ANSWER;
    cli_error(s->cli, "shard %u: each node answers now and then only", shard);
    return 0;
}

/* Where the shard is to be read from; 0 after the error was printed. A shard that the file of
 * tokens does not name came later: all of it is new. */
static uint64_t since_first(struct since *s, uint32_t shard) {
    if (s->time_ms) return since_locate(s, shard);
    for (uint32_t i = 0; i < s->from_count; i++)
        if (s->from[i].shard == shard) return s->from[i].index + 1;
    return 1;
}

static int since_shard(struct since *s, const jumun_token *to) {
    uint64_t at = since_first(s, to->shard);
    if (at == 0) return s->feed.status;
    if (!s->time_ms && at > to->index + 1) {
        cli_error(s->cli, "shard %u has come to %" PRIu64 " only, the token says %" PRIu64
                  ": is it another cluster's, or of before a backup was restored? Then: jumun "
                  "import --full", to->shard, to->index, at - 1);
        return CLI_REFUSED;
    }
    while (at <= to->index) {
        uint8_t room[128];
        struct msgpack_writer w;
        struct feed_reply reply;
        request_pull(&w, room, to->shard, at);
        void *bytes = cli_feed_ask(&s->feed, &w, FEED_PULL, &reply);
        if (!bytes) return s->feed.status;
        bool ok = since_marks(s, reply.rest, to->index);
        at = reply.next;
        free(bytes);
        if (cli_stop_asked()) return CLI_NO_ANSWER;
        if (ok) continue;
        cli_error(s->cli, "%s: its answer cannot be understood, or there is no memory",
                  s->feed.nodes[s->feed.at].feed);
        return CLI_NO_ANSWER;
    }
    return CLI_DONE;
}

/* -- whose log it is --------------------------------------------------------------------------- */

static int since_find_ends(struct since *s) {
    struct cli_feed *f = &s->feed;
    int status = cli_feed_open(f, s->cli, &s->cluster, s->from, s->from_count);
    if (status != CLI_DONE) return status;
    if (s->written_down &&
        !cli_tokens_name_all(s->cli, s->from, s->from_count, f->places, f->places_count))
        return CLI_USAGE;
    for (uint32_t i = 0; i < f->places_count; i++)
        s->to[s->to_count++] = (jumun_token){f->places[i].shard, f->places[i].commit};
    return CLI_DONE;
}

static int since_find_replicas(struct since *s) {
    struct cli_replica_status *list;
    uint32_t count = cli_replicas_ask(s->cli, cli_replicas(s->cli), &list);
    int status = cli_replicas_agree(s->cli, &s->cluster, list, count);
    for (uint32_t i = 0; i < count; i++) s->replica_is_there |= list[i].answered;
    free(list);
    return status;
}

/* No order is to be asked for, so that nobody would notice: until one changes. */
static int since_miss_replicas(struct since *s) {
    char sentence[REACH_SENTENCE_BYTES], url[ENDPOINT_BYTES_MAX];
    for (const char *at = cli_replicas(s->cli); *at; at += *at == ',') {
        size_t size = strcspn(at, ",");
        snprintf(url, sizeof url, "%.*s", (int)size, at);
        cli_error(s->cli, "%s: %s", url, cli_unreached_why(url, "no answer", sentence));
        at += size;
    }
    return CLI_NO_ANSWER;
}

/* -- the orders -------------------------------------------------------------------------------- */

/* What was in the output before goes only now that something came. */
static int since_rows(struct since *s, const jumun_answer *a) {
    if (!s->rows->begun && !rows_begin(s->cli, s->rows, s->begin_bytes)) return CLI_BAD_FILE;
    return !a || rows_write(s->rows, a) ? CLI_DONE : rows_failed(s->cli, s->rows);
}

static int since_fetch(struct since *s) {
    jumun_query q = {.kind = JUMUN_MULTI_GET, .fields = s->rows->fields,
                     .fields_count = s->rows->fields_count};
    q.demand = (jumun_demand){.at_least = s->to, .at_least_count = s->to_count, .strict = true,
                              .any_state = true, .wait_ms = s->cli->timeout_ms / 2};
    jumun_queries *queries = cli_queries(s->cli, cli_replicas(s->cli));
    if (!queries) return CLI_USAGE;
    int status = CLI_DONE;
    for (size_t at = 0; at < s->changed.count && status == CLI_DONE;) {
        jumun_answer *a;
        size_t left = s->changed.count - at;
        q.keys = s->changed.keys + at;
        q.keys_count = left < SINCE_KEYS_PER_QUERY ? (uint32_t)left : SINCE_KEYS_PER_QUERY;
        cli_wait_begin(&s->wait_replica, s->cli, "for a replica at %s to have got as far as the "
                       "log (--replica)", cli_replicas(s->cli));
        int code = jumun_query_run(queries, &q, &a);
        cli_wait_end(&s->wait_replica);
        if (code != JUMUN_OK) status = cli_query_failed(s->cli, code, a);
        else if (jumun_answer_rows(a) == 0) status = cli_query_failed(s->cli, JUMUN_BAD_REPLY, a);
        else status = since_rows(s, a);
        at += a ? jumun_answer_rows(a) : 0; /* fewer than asked for when they do not fit */
        jumun_answer_free(a);
        if (status == CLI_DONE && cli_stop_asked()) status = CLI_NO_ANSWER;
    }
    jumun_queries_close(queries);
    return status == CLI_DONE && !s->rows->begun ? since_rows(s, NULL) : status;
}

/* -- where to begin, in the log and in the output ---------------------------------------------- */

static int since_file(struct since *s, const char *path) {
    struct rows_state *state = calloc(1, sizeof *state);
    bool exists = false, ok = state && rows_state_load(path, state, &exists);
    if (!ok)
        cli_error(s->cli, "%s: %s", path, exists ? "it does not hold tokens"
                                                 : "there is no such file");
    ok = ok && !rows_state_is_unfinished(s->cli, path, state) &&
         cli_cluster_agrees(s->cli, &s->cluster, state->cluster, "%.300s", path);
    if (ok) {
        s->from_count = state->tokens_count;
        memcpy(s->from, state->tokens, sizeof s->from);
    }
    free(state);
    return ok ? CLI_DONE : CLI_BAD_FILE;
}

/* "10:30" alone is a time of day: tokens would name a shard 0 as well. */
static int since_when(struct since *s, const char *when) {
    char fault[WHEN_ERROR_BYTES];
    if (when_parse(when, text_now_ms(), &s->time_ms, fault)) return CLI_DONE;
    s->time_ms = 0;
    if (*when == '@') return since_file(s, when + 1);
    s->written_down = cli_tokens_parse(when, s->from, &s->from_count);
    if (s->written_down) return CLI_DONE;
    if (when_is_bare(when)) return cli_usage(s->cli, "--since: %s", fault);
    return cli_usage(s->cli, "--since: \"%.60s\" is no time such as 10m or 2026-11-21T06:00:00Z, "
                     "no tokens such as 0:17,1:4 and no @FILE", when);
}

/* What --tokens holds: where it was last written, and of whose orders. */
static int since_look_back(struct since *s, const char *tokens_path) {
    bool exists;
    if (!tokens_path) return CLI_DONE;
    rows_state_load(tokens_path, &s->state, &exists);
    s->state_is_new = !exists;
    if (!rows_state_is_ours(s->cli, tokens_path, &s->state, "import ")) return CLI_BAD_FILE;
    if (args_flag(&s->cli->args, "restart")) return CLI_DONE;
    if (rows_state_is_unfinished(s->cli, tokens_path, &s->state)) return CLI_BAD_FILE;
    return cli_cluster_agrees(s->cli, &s->cluster, s->state.cluster, "%.300s", tokens_path)
               ? CLI_DONE : CLI_BAD_FILE;
}

/* Changes go behind what these tokens tell of; what else is in a file is nobody's to lose. */
static int since_output(struct since *s, const char *tokens_path) {
    struct rows *rows = s->rows;
    const struct args *args = &s->cli->args;
    bool same = rows->path[0] && strcmp(s->state.output, rows->path) == 0;
    bool cut = same && s->state.writing && s->state.bytes <= rows->there; /* its run was killed */
    bool restart = args_flag(args, "restart"), append = args_flag(args, "append");
    if (same && rows->regular && rows->there && rows->there < s->state.bytes && !restart &&
        !append) {
        cli_error(s->cli, "%s has %" PRIu64 " bytes, fewer than the %" PRIu64 " that %s tells of: "
                  "--append writes behind them, --restart empties it first", rows->path,
                  rows->there, s->state.bytes, tokens_path);
        return CLI_BAD_FILE;
    }
    /* Whoever reads the one file would miss what went to another. */
    if (!same && s->state.output[0] && !restart && !append &&
        strcmp(s->state.command, SINCE_COMMAND) == 0) {
        cli_error(s->cli, "%s is of changes that went to %s, and this is to %s: --append writes "
                  "there from now on", tokens_path, s->state.output,
                  rows->path[0] ? rows->path : "standard output");
        return CLI_BAD_FILE;
    }
    s->begin_bytes = cut ? s->state.bytes : rows->there;
    if (restart) s->begin_bytes = 0;
    if (s->begin_bytes == 0 || append) return CLI_DONE;
    if (same) return rows_state_fits(s->cli, tokens_path, &s->state, rows) ? CLI_DONE
                                                                           : CLI_BAD_FILE;
    cli_error(s->cli, "%s has %" PRIu64 " bytes in it that %s%s: --append writes behind them, "
              "--restart empties it first", rows->path, rows->there,
              tokens_path ? "did not come with " : "no file of --tokens tells of",
              tokens_path ? tokens_path : "");
    return CLI_BAD_FILE;
}

/* Notes that what stands behind `begin_bytes` is not whole yet. */
static bool since_note(struct since *s, const char *tokens_path, bool writing) {
    s->state.writing = writing;
    if (!tokens_path || rows_state_save(tokens_path, &s->state)) return true;
    cli_error(s->cli, "%s: cannot be written", tokens_path);
    return false;
}

static int since_write(struct since *s, const char *tokens_path) {
    struct rows_state *before = malloc(sizeof *before);
    if (!before) return CLI_NO_ANSWER;
    *before = s->state;
    rows_state_describe(&s->state, s->rows, SINCE_COMMAND);
    s->state.bytes = s->begin_bytes;
    s->state.done = true;
    s->state.snapshot = 0;
    memcpy(s->state.cluster, s->cluster.id, sizeof s->state.cluster);
    bool noted = s->rows->path[0] && tokens_path;
    int status = !noted || since_note(s, tokens_path, true) ? CLI_DONE : CLI_BAD_FILE;
    if (status == CLI_DONE) status = since_fetch(s);
    if (status == CLI_DONE && !rows_sync(s->rows)) status = rows_failed(s->cli, s->rows);
    if (status != CLI_DONE) {
        rows_undo(s->rows, s->begin_bytes);
        if (noted && s->state_is_new) unlink(tokens_path);
        else if (noted) rows_state_save(tokens_path, before);
    }
    free(before);
    return status;
}

static int since_run(struct since *s, const char *tokens_path) {
    int status = since_find_ends(s);
    if (status == CLI_DONE) status = since_find_replicas(s);
    for (uint32_t i = 0; i < s->to_count && status == CLI_DONE; i++)
        status = since_shard(s, &s->to[i]);
    if (status == CLI_DONE) key_set_settle(&s->changed);
    if (status == CLI_DONE && s->changed.count == 0 && !s->replica_is_there)
        status = since_miss_replicas(s);
    if (status == CLI_DONE) status = since_write(s, tokens_path);
    if (status != CLI_DONE) return status;
    s->state.tokens_count = s->to_count;
    s->state.bytes = s->rows->bytes;
    s->state.rows = s->rows->written;
    memcpy(s->state.tokens, s->to, sizeof s->state.tokens);
    if (!since_note(s, tokens_path, false)) return CLI_BAD_FILE;
    if (!s->cli->quiet) {
        fprintf(stderr, "%" PRIu64 " order%s changed; as of ", s->rows->written,
                s->rows->written == 1 ? "" : "s");
        cli_tokens_print(s->to, s->to_count, stderr);
        fputc('\n', stderr);
    }
    return CLI_DONE;
}

int cli_import_since(struct cli *cli, struct rows *rows, const char *when, const char *output,
                     const char *tokens_path) {
    struct since *s = calloc(1, sizeof *s);
    if (!s) return CLI_NO_ANSWER;
    s->cli = cli;
    s->rows = rows;
    int status = since_when(s, when);
    if (status == CLI_DONE) status = since_look_back(s, tokens_path);
    if (status == CLI_DONE && !rows_open(cli, rows, output)) status = CLI_BAD_FILE;
    if (status == CLI_DONE) status = since_output(s, tokens_path);
    cli_stop_catch();
    if (status == CLI_DONE) status = since_run(s, tokens_path);
    key_set_free(&s->changed);
    free(s);
    return status;
}
