/* jumun import --since: which orders changed is read from the log (their keys only), how they are
 * now from a replica that has got at least as far. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "actors/result_codes.h"
#include "clients/cli/cli_rows.h"
#include "clients/cli/cli_wait.h"
#include "clients/cli/text.h"
#include "clients/sdk/raw_call.h"
#include "engine/limits.h"
#include "engine/wire/feed_decode.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/protocol.h"

enum { SINCE_KEYS_PER_QUERY = 256, SINCE_FIRST_KEYS = 1024 };

struct since {
    struct cli *cli;
    struct rows *rows;
    char feed[ENDPOINT_BYTES_MAX];
    jumun_token from[CLI_TOKENS_MAX];  /* reflected already */
    uint32_t from_count;
    int64_t time_ms;                   /* 0 = by tokens */
    jumun_token to[CLI_TOKENS_MAX];    /* the logs' ends when it began */
    uint32_t to_count;
    jumun_key *keys;                   /* of orders that changed */
    size_t keys_count, keys_capacity;
    struct cli_wait wait_node, wait_feed, wait_replica;
};

/* -- the log ----------------------------------------------------------------------------------- */

/* Sends what `w` holds to the feed. NULL after the error was printed. */
static void *since_ask(struct since *s, const struct msgpack_writer *w, enum feed_kind kind,
                       struct feed_reply *reply) {
    void *bytes = NULL;
    size_t size;
    bool sent;
    char error[256] = "";
    cli_wait_begin(&s->wait_feed, s->cli, "for the feed of the node, %s, to answer", s->feed);
    bool answered = raw_call(s->feed, s->cli->timeout_ms, w->start, msgpack_writer_size(w), &bytes,
                             &size, &sent, error, sizeof error);
    cli_wait_end(&s->wait_feed);
    if (!answered) {
        cli_error(s->cli, "%s: %s", s->feed, error);
        return NULL;
    }
    bool ok = feed_reply_decode(bytes, size, kind, FEED_MARKS, reply);
    if (ok && reply->code == 0) return bytes;
    char text[256];
    if (ok) text_printable(text, sizeof text, reply->sentence.data, reply->sentence.size);
    cli_error(s->cli, "%s: %s", s->feed, ok ? text : "it does not speak this protocol");
    if (ok && reply->code == RESULT_IMPORT_REQUIRED)
        fputs("The log does not reach back so far: jumun import --full\n", stderr);
    free(bytes);
    return NULL;
}

static void request_begin(struct msgpack_writer *w, uint8_t room[128], uint32_t fields,
                          enum feed_kind kind) {
    msgpack_writer_init(w, room, 128);
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, kind);
}

static bool since_add(struct since *s, const void *key) {
    if (s->keys_count == s->keys_capacity) {
        size_t capacity = s->keys_capacity ? 2 * s->keys_capacity : SINCE_FIRST_KEYS;
        jumun_key *keys = realloc(s->keys, capacity * sizeof *keys);
        if (!keys) return false;
        s->keys = keys;
        s->keys_capacity = capacity;
    }
    memcpy(s->keys[s->keys_count++].bytes, key, 16);
    return true;
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
        if (!since_add(s, key)) return false;
    }
    return true;
}

/* Where the shard is to be read from; 0 after the error was printed. */
static uint64_t since_first(struct since *s, uint32_t shard) {
    for (uint32_t i = 0; i < s->from_count && !s->time_ms; i++)
        if (s->from[i].shard == shard) return s->from[i].index + 1;
    if (!s->time_ms) return 1;
    uint8_t room[128];
    struct msgpack_writer w;
    struct feed_reply reply;
    request_begin(&w, room, 4, FEED_LOCATE);
    msgpack_write_uint(&w, shard);
    msgpack_write_int(&w, s->time_ms);
    void *bytes = since_ask(s, &w, FEED_LOCATE, &reply);
    uint64_t first = bytes ? reply.next : 0;
    free(bytes);
    return first;
}

static int since_shard(struct since *s, const jumun_token *to) {
    uint64_t at = since_first(s, to->shard);
    if (at == 0) return CLI_NO_ANSWER;
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
        request_begin(&w, room, 7, FEED_PULL);
        msgpack_write_uint(&w, to->shard);
        msgpack_write_uint(&w, at);
        msgpack_write_uint(&w, 0);
        msgpack_write_nil(&w);
        msgpack_write_uint(&w, FEED_MARKS);
        void *bytes = since_ask(s, &w, FEED_PULL, &reply);
        if (!bytes) return CLI_REFUSED;
        bool ok = reply.next > at && since_marks(s, reply.rest, to->index);
        at = reply.next;
        free(bytes);
        if (ok) continue;
        cli_error(s->cli, "%s: its answer cannot be understood, or there is no memory", s->feed);
        return CLI_NO_ANSWER;
    }
    return CLI_DONE;
}

/* -- where the log is -------------------------------------------------------------------------- */

static int since_find_feed(struct since *s) {
    jumun_command c = {.kind = JUMUN_NODE_SHARD_MAP};
    struct cli_answer answer;
    bool encoded;
    cli_wait_begin(&s->wait_node, s->cli, "for a node at %s to tell where its log is read "
                   "(--endpoint)", s->cli->endpoint);
    int status = cli_read(s->cli, &c, &answer, &encoded);
    cli_wait_end(&s->wait_node);
    if (status != CLI_DONE || encoded) return status;
    value_text(answer.value, "feed", s->feed, sizeof s->feed);
    cli_answer_free(&answer);
    if (s->feed[0]) return CLI_DONE;
    cli_error(s->cli, "%s: this node has no feed", s->cli->endpoint);
    return CLI_REFUSED;
}

/* A shard that exists and that the node has not got; -1 = none. */
static int since_lacks(const struct since *s, const struct feed_hello *hello) {
    const uint8_t *active = hello->active.data;
    for (uint32_t shard = 0; hello->active.size != 0 && shard < SHARDS_MAX; shard++) {
        bool here = !(active[shard / 8] >> shard % 8 & 1);
        for (uint32_t i = 0; i < s->to_count; i++) here = here || s->to[i].shard == shard;
        if (!here) return (int)shard;
    }
    return -1;
}

static int since_find_ends(struct since *s) {
    uint8_t room[128];
    struct msgpack_writer w;
    struct feed_reply reply;
    struct feed_hello_shard shards[CLI_TOKENS_MAX];
    struct feed_hello hello = {.shards = shards, .shards_max = CLI_TOKENS_MAX};
    request_begin(&w, room, 2, FEED_HELLO);
    void *bytes = since_ask(s, &w, FEED_HELLO, &reply);
    if (!bytes) return CLI_NO_ANSWER;
    bool ok = feed_hello_decode(reply.rest, &hello);
    for (uint32_t i = 0; ok && i < hello.shards_held; i++)
        if (shards[i].shard < SHARDS_MAX)
            s->to[s->to_count++] = (jumun_token){shards[i].shard, shards[i].commit};
    int lacks = ok ? since_lacks(s, &hello) : -1;
    free(bytes);
    if (lacks >= 0) {
        cli_error(s->cli, "the node at %s has no replica of shard %d, so what changed in it cannot "
                  "be read there: give --endpoint a node that has all shards", s->cli->endpoint,
                  lacks);
        return CLI_REFUSED;
    }
    if (ok) return CLI_DONE;
    cli_error(s->cli, "%s: it does not speak this protocol", s->feed);
    return CLI_NO_ANSWER;
}

/* -- the orders -------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b) { return memcmp(a, b, 16); }

static void since_sort(struct since *s) {
    size_t kept = 0;
    if (s->keys_count) qsort(s->keys, s->keys_count, sizeof *s->keys, by_key);
    for (size_t i = 0; i < s->keys_count; i++)
        if (kept == 0 || memcmp(&s->keys[i], &s->keys[kept - 1], 16) != 0)
            s->keys[kept++] = s->keys[i];
    s->keys_count = kept;
}

static int since_fetch(struct since *s) {
    jumun_query q = {.kind = JUMUN_MULTI_GET, .fields = s->rows->fields,
                     .fields_count = s->rows->fields_count};
    q.demand = (jumun_demand){.at_least = s->to, .at_least_count = s->to_count, .strict = true,
                              .any_state = true, .wait_ms = s->cli->timeout_ms / 2};
    jumun_queries *queries = cli_queries(s->cli, cli_replicas(s->cli));
    if (!queries) return CLI_USAGE;
    int status = CLI_DONE;
    for (size_t at = 0; at < s->keys_count && status == CLI_DONE;) {
        jumun_answer *a;
        size_t left = s->keys_count - at;
        q.keys = s->keys + at;
        q.keys_count = left < SINCE_KEYS_PER_QUERY ? (uint32_t)left : SINCE_KEYS_PER_QUERY;
        cli_wait_begin(&s->wait_replica, s->cli, "for a replica at %s to have got as far as the "
                       "log (--replica)", cli_replicas(s->cli));
        int code = jumun_query_run(queries, &q, &a);
        cli_wait_end(&s->wait_replica);
        if (code != JUMUN_OK) status = cli_query_failed(s->cli, code, a);
        else if (jumun_answer_rows(a) == 0) status = cli_query_failed(s->cli, JUMUN_BAD_REPLY, a);
        else if (!rows_write(s->rows, a)) status = CLI_BAD_FILE;
        at += a ? jumun_answer_rows(a) : 0; /* fewer than asked for when they do not fit */
        jumun_answer_free(a);
    }
    jumun_queries_close(queries);
    return status;
}

static bool since_when(struct since *s, const char *when) {
    struct rows_state state;
    bool exists;
    int64_t span;
    if (*when == '@') {
        if (!rows_state_load(when + 1, &state, &exists)) {
            cli_error(s->cli, "%s: %s", when + 1, exists ? "it does not hold tokens"
                                                         : "there is no such file");
            return false;
        }
        if (rows_state_is_unfinished(s->cli, when + 1, &state)) return false;
        s->from_count = state.tokens_count;
        memcpy(s->from, state.tokens, sizeof s->from);
        return true;
    }
    if (cli_tokens_parse(when, s->from, &s->from_count)) return true;
    if (text_parse_span(when, &span)) {
        s->time_ms = text_now_ms() - span;
        return true;
    }
    cli_usage(s->cli, "--since: \"%.60s\" is no time such as 10m, no tokens such as 0:17,1:4 and "
                      "no @FILE", when);
    return false;
}

static int since_run(struct since *s, const char *output, const char *tokens_path) {
    int status = since_find_feed(s);
    if (status == CLI_DONE) status = since_find_ends(s);
    for (uint32_t i = 0; i < s->to_count && status == CLI_DONE; i++)
        status = since_shard(s, &s->to[i]);
    if (status != CLI_DONE) return status;
    since_sort(s);
    if (!rows_open(s->cli, s->rows, output, 0)) return CLI_BAD_FILE;
    status = since_fetch(s);
    if (!rows_close(s->rows) && status == CLI_DONE) status = CLI_BAD_FILE;
    if (status == CLI_BAD_FILE) cli_error(s->cli, "the output cannot be written");
    if (status != CLI_DONE) return status;
    struct rows_state state = {.tokens_count = s->to_count, .done = true,
                               .rows = s->rows->written};
    memcpy(state.tokens, s->to, sizeof state.tokens);
    if (tokens_path && !rows_state_save(tokens_path, &state)) {
        cli_error(s->cli, "%s: cannot be written", tokens_path);
        return CLI_BAD_FILE;
    }
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
    int status = *when == '@' ? CLI_BAD_FILE : CLI_USAGE;
    if (since_when(s, when)) status = since_run(s, output, tokens_path);
    free(s->keys);
    free(s);
    return status;
}
