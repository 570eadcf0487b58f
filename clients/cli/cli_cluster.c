/* Talking to the nodes of a cluster by hand: requests, answers, the document, the status. */
#include "clients/cli/cli_cluster.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "actors/command.h"
#include "actors/result_codes.h"
#include "clients/cli/cli_cluster_file.h"
#include "clients/cli/cli_unreached.h"
#include "clients/cli/text.h"
#include "clients/sdk/raw_call.h"
#include "clients/sdk/reply_decode.h"
#include "engine/base/program.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/protocol.h"
#include "engine/wire/tls.h"

/* A node that does not answer must not use up the time for the others. */
enum { ASK_MS = 1500, ASK_TLS_MS = 4000, TURN_MS = 100 };

static struct cluster_known known;
static uint64_t version_wanted;
static bool somebody_answered;    /* whatever it was, in this run */

/* -- one question ------------------------------------------------------------------------------ */

bool cluster_begin(struct cluster_call *call, uint32_t kind, bool writes, uint32_t fields) {
    struct id128 id;
    call->buffer = NULL;
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id) return false;
    return cluster_begin_as(call, kind, writes ? &id : NULL, fields);
}

bool cluster_begin_as(struct cluster_call *call, uint32_t kind, const struct id128 *id,
                      uint32_t fields) {
    struct msgpack_writer *w = &call->w;
    call->kind = kind;
    call->buffer = malloc(CLUSTER_REQUEST_BYTES_MAX);
    if (!call->buffer) return false;
    msgpack_writer_init(w, call->buffer, CLUSTER_REQUEST_BYTES_MAX);
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_nil(w);
    msgpack_write_array(w, 1);
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, kind);
    msgpack_write_nil(w);
    if (id) msgpack_write_bin(w, id->bytes, sizeof id->bytes);
    else msgpack_write_nil(w);
    msgpack_write_nil(w);
    msgpack_write_array(w, fields);
    return true;
}

void cluster_end(struct cluster_call *call) {
    free(call->buffer);
    call->buffer = NULL;
}

void cluster_answer_free(struct cluster_answer *a) {
    free(a->bytes);
    *a = (struct cluster_answer){0};
}

static bool read_text(struct msgpack_reader *r, char *out, size_t bytes) {
    const void *text;
    uint32_t size;
    if (msgpack_read_str(r, &text, &size) != MSGPACK_OK) return false;
    text_printable(out, bytes, text, size);
    return true;
}

/* One result; the message holds no other. */
static bool read_result(struct msgpack_reader *r, struct cluster_answer *a) {
    uint32_t count, fields;
    uint64_t numbers[5] = {0}, retry = 0;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count != 1 ||
        msgpack_read_array(r, &fields) != MSGPACK_OK || fields < 4)
        return false;
    for (uint32_t i = 0; i < 5 && i < fields; i++)
        if (msgpack_read_uint(r, &numbers[i]) != MSGPACK_OK) return false;
    a->code = (uint32_t)numbers[0];
    a->version = (uint32_t)numbers[1];
    a->repeated = numbers[4] & RESULT_FLAG_REPEATED;
    if (a->code == RESULT_OK) {
        if (fields > 5) a->value = bytes_of(r->at, msgpack_reader_left(r));
        return true;
    }
    if (fields < 7 || !read_text(r, a->sentence, sizeof a->sentence)) return false;
    if (msgpack_read_uint(r, &retry) == MSGPACK_OK) a->retry_after_ms = (uint32_t)retry;
    return true;
}

static bool read_reply(struct cluster_answer *a, size_t bytes) {
    struct msgpack_reader r;
    uint32_t fields;
    uint64_t version, code;
    msgpack_reader_init(&r, a->bytes, bytes);
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields != 3 ||
        msgpack_read_uint(&r, &version) != MSGPACK_OK || msgpack_read_uint(&r, &code) != MSGPACK_OK)
        return false;
    a->code = (uint32_t)code;
    if (code != 0) return read_text(&r, a->sentence, sizeof a->sentence);
    return read_result(&r, a);
}

/* Who answers otherwise than a node; NULL = it is not known. */
static const char *stranger_text(const void *answer, size_t bytes) {
    struct reply reply;
    if (reply_open(&reply, answer, bytes) != REPLY_REFUSED) return NULL;
    if (reply.code == RESULT_READ_ONLY) return cli_wrong_server_text(CLI_REPLICA);
    return reply.code == JUMUN_BAD_REPLY ? cli_wrong_server_text(CLI_FEED) : NULL;
}

/* Of one question to one node. */
static uint32_t ask_ms(const struct cli *cli, const char *address) {
    uint32_t least_ms = tls_is_wanted(address) ? ASK_TLS_MS : ASK_MS;
    return cli->timeout_ms / 4 > least_ms ? cli->timeout_ms / 4 : least_ms;
}

bool cluster_ask(struct cli *cli, const char *address, const struct cluster_call *call,
                 uint32_t timeout_ms, struct cluster_answer *a) {
    size_t bytes = 0;
    bool sent;
    *a = (struct cluster_answer){.code = UINT32_MAX};
    if (!msgpack_writer_ok(&call->w)) {
        snprintf(a->sentence, sizeof a->sentence, "the request is too large");
        return false;
    }
    if (!raw_call(address, timeout_ms, call->buffer, msgpack_writer_size(&call->w), &a->bytes,
                  &bytes, &sent, a->sentence, sizeof a->sentence))
        return false;
    somebody_answered = true;
    if (read_reply(a, bytes)) return true;
    const char *stranger = stranger_text(a->bytes, bytes);
    cluster_answer_free(a);
    a->code = UINT32_MAX;
    a->stranger = stranger != NULL;
    snprintf(a->sentence, sizeof a->sentence, "%s",
             stranger ? stranger : "the answer is not understood");
    return false;
}

/* -- any node ---------------------------------------------------------------------------------- */

const char *cluster_address(struct cli *cli, uint32_t i) {
    static char address[ENDPOINT_BYTES_MAX];
    const char *at = cli->endpoint;
    for (; *at; i--) {
        size_t size = strcspn(at, ",");
        if (i == 0) {
            snprintf(address, sizeof address, "%.*s", (int)size, at);
            return address;
        }
        at += size + (at[size] == ',');
    }
    for (uint32_t n = 0; n < known.document.nodes_count; n++) {
        if (known.document.nodes[n].state == CLUSTER_MEMBER_REMOVED) continue;
        if (i-- == 0) return known.document.nodes[n].client;
    }
    return NULL;
}

/* Another node, or the same one a moment later, may give another answer. */
static bool may_pass(const struct cluster_answer *a) {
    return a->code == UINT32_MAX ||
           (a->code >= RESULT_OVERLOADED && a->code <= RESULT_LEADERSHIP_LOST);
}

static bool fetch_copy(struct cli *cli);

/* After nobody took a command of the meta group: how many of its nodes there are to elect a leader.
 * False when nobody can be asked who they are. */
static bool tell_no_leader(struct cli *cli) {
    const struct cluster_document *d = &known.document;
    const struct cluster_shard *meta = NULL;
    uint32_t answer = 0;
    if (!somebody_answered || (known.version == 0 && !fetch_copy(cli))) return false;
    meta = cluster_shard_find(d, SHARD_META);
    for (uint32_t i = 0; meta && i < meta->servers_count; i++) {
        const struct cluster_member *m = cluster_member_find(d,
                                                             cluster_server_node(meta->servers[i]));
        struct cluster_status status;
        if (!m || !cluster_status_of(cli, m->client, &status)) continue;
        answer += value_int(status.map, "node_id", 0) == m->node &&
                  value_at(status.map, "document") != NULL;
        cluster_status_free(&status);
    }
    if (!meta) return false;
    cli_error(cli, "the meta group, which decides this, has no leader that answers: %u of its %u "
              "nodes answer, and it takes %u (see jumun cluster status)", answer,
              meta->servers_count, meta->servers_count / 2u + 1);
    return true;
}

/* Tells of what was not done, and frees the answer. */
static int send_failed(struct cli *cli, const char *from, struct cluster_answer *a) {
    int status = a->stranger ? CLI_USAGE : may_pass(a) ? CLI_NO_ANSWER : CLI_REFUSED;
    bool led = a->code != UINT32_MAX && a->code != RESULT_NOT_LEADER;
    bool told = !a->stranger && !led && tell_no_leader(cli);
    if (a->code == UINT32_MAX) {
        if (!told) cli_error(cli, "%s: %s", from, a->sentence);
        if (!a->stranger) cli_tell_unreached(cli->endpoint);
    } else if (!told) {
        cli_error(cli, "refused [%u %s]: %s", a->code, result_code_name(a->code), a->sentence);
    }
    cluster_answer_free(a);
    return status;
}

int cluster_send(struct cli *cli, const struct cluster_call *call, struct cluster_answer *a) {
    int64_t until_ms = text_now_ms() + cli->timeout_ms;
    char from[ENDPOINT_BYTES_MAX] = "";
    bool unformed = true; /* all that were asked in this round are of no cluster, or no nodes */
    bool others = false;  /* somebody is, or does not answer: `a` is what was last heard of those */
    bool looked = false;  /* whether the cluster has a document at all */
    *a = (struct cluster_answer){.code = UINT32_MAX};
    for (uint32_t i = 0;; i++) {
        struct cluster_answer next;
        const char *address = cluster_address(cli, i);
        int64_t left_ms = until_ms - text_now_ms();
        if ((left_ms <= 0 && i > 0) || (!address && unformed)) break;
        if (!address) {
            unformed = true;
            usleep(TURN_MS * 1000);
            i = UINT32_MAX; /* from the first one again */
            continue;
        }
        char asked[ENDPOINT_BYTES_MAX];
        snprintf(asked, sizeof asked, "%s", address);
        uint32_t wait_ms = ask_ms(cli, asked);
        if (left_ms < wait_ms) wait_ms = left_ms > 1 ? (uint32_t)left_ms : 1;
        cluster_ask(cli, asked, call, wait_ms, &next);
        bool outside = next.code == RESULT_CLUSTER_NOT_FORMED || next.stranger; /* it stays so */
        /* Whoever is asked when the time is all but up has had none to answer. */
        bool hurried = next.code == UINT32_MAX && wait_ms < ask_ms(cli, asked);
        if (others && (outside || hurried)) {
            cluster_answer_free(&next);
            if (hurried) unformed = false;
            continue;
        }
        cluster_answer_free(a);
        *a = next;
        memcpy(from, asked, sizeof from);
        if (outside) continue;
        unformed = false;
        others = true;
        if (!may_pass(a)) break;
        if (a->code != RESULT_NOT_LEADER || looked) continue;
        looked = true;
        if (!cluster_is_of_file(cli, asked)) continue;
        cluster_answer_free(a);
        cli_error(cli, CLUSTER_FILE_TEXT);
        return CLI_REFUSED;
    }
    if (a->code != RESULT_OK) return send_failed(cli, from, a);
    if (a->version > version_wanted) version_wanted = a->version;
    return CLI_DONE;
}

/* -- the document ------------------------------------------------------------------------------ */

const struct cluster_known *cluster_known(void) { return &known; }

uint64_t cluster_version_wanted(void) { return version_wanted; }

bool cluster_learn(const void *data, size_t bytes, char *sentence, size_t sentence_bytes) {
    static struct cluster_known next;
    const char *fault = cluster_decode(data, bytes, &next.version, &next.document);
    if (fault) snprintf(sentence, sentence_bytes, "the cluster document is wrong: %s", fault);
    else known = next;
    return fault == NULL;
}

/* Takes a node's copy over unless it is of another cluster, or older than what is known. Its
 * version; 0: it is of no use. */
static uint64_t take_copy(const struct cluster_answer *a) {
    static struct cluster_known copy;
    if (cluster_decode(a->value.data, a->value.size, &copy.version, &copy.document)) return 0;
    if (known.version > 0 && memcmp(&copy.document.cluster_id, &known.document.cluster_id,
                                    sizeof copy.document.cluster_id) != 0)
        return 0;
    if (copy.version >= known.version) known = copy;
    return copy.version;
}

/* The same with the copy of the node at address i; 0 also when it gives none. */
static uint64_t ask_copy(struct cli *cli, uint32_t i, const struct cluster_call *call) {
    char address[ENDPOINT_BYTES_MAX];
    struct cluster_answer a;
    uint64_t version = 0;
    snprintf(address, sizeof address, "%s", cluster_address(cli, i));
    if (cluster_ask(cli, address, call, ask_ms(cli, address), &a) && a.code == RESULT_OK)
        version = take_copy(&a);
    cluster_answer_free(&a);
    return version;
}

/* The first node's own copy that has what this run has led to; without one, the newest. */
static bool fetch_copy(struct cli *cli) {
    struct cluster_call call;
    bool good = false;
    if (!cluster_begin(&call, NODE_COMMAND_CLUSTER_DOCUMENT, false, 0)) return false;
    for (uint32_t i = 0; cluster_address(cli, i); i++) {
        if (good && known.version >= version_wanted) break;
        if (ask_copy(cli, i, &call)) good = true;
    }
    cluster_end(&call);
    return good;
}

bool cluster_is_spread(struct cli *cli) {
    struct cluster_call call;
    uint64_t version = 0;
    if (!cluster_begin(&call, NODE_COMMAND_CLUSTER_DOCUMENT, false, 0)) return false;
    for (uint32_t i = 0; version == 0 && cluster_address(cli, i); i++)
        version = ask_copy(cli, i, &call);
    cluster_end(&call);
    return version >= version_wanted;
}

int cluster_fetch(struct cli *cli, bool any, const struct cluster_known **out) {
    struct cluster_call call;
    struct cluster_answer a;
    char sentence[CLUSTER_SENTENCE_BYTES] = "";
    *out = &known;
    if (any && fetch_copy(cli)) return CLI_DONE;
    if (!cluster_begin(&call, COMMAND_CLUSTER_GET, false, 0)) return CLI_NO_ANSWER;
    int status = cluster_send(cli, &call, &a);
    if (status == CLI_DONE &&
        !cluster_learn(a.value.data, a.value.size, sentence, sizeof sentence)) {
        cli_error(cli, "%s", sentence);
        status = CLI_NO_ANSWER;
    }
    cluster_answer_free(&a);
    cluster_end(&call);
    return status;
}

/* -- a node's status --------------------------------------------------------------------------- */

bool cluster_status_of(struct cli *cli, const char *address, struct cluster_status *s) {
    struct cluster_call call;
    memset(s, 0, sizeof *s);
    if (!cluster_begin(&call, NODE_COMMAND_STATUS, false, 0)) return false;
    bool good = cluster_ask(cli, address, &call, ask_ms(cli, address), &s->answer) &&
                s->answer.code == 0;
    cluster_end(&call);
    size_t offset = 0;
    msgpack_unpacked_init(&s->unpacked);
    if (good)
        good = msgpack_unpack_next(&s->unpacked, s->answer.value.data, s->answer.value.size,
                                   &offset) == MSGPACK_UNPACK_SUCCESS;
    if (good) {
        s->map = &s->unpacked.data;
        return true;
    }
    s->stranger = s->answer.stranger;
    snprintf(s->error, sizeof s->error, "%s", s->answer.sentence);
    cluster_status_free(s);
    return false;
}

void cluster_status_free(struct cluster_status *s) {
    msgpack_unpacked_destroy(&s->unpacked);
    cluster_answer_free(&s->answer);
    s->map = NULL;
}

const msgpack_object *cluster_status_shard(const struct cluster_status *s, uint32_t shard) {
    const msgpack_object *rows = value_at(s->map, "shards");
    for (uint32_t i = 0; i < value_count(rows); i++) {
        const msgpack_object *row = value_item(rows, i);
        if (value_int(row, "shard", value_int(row, "id", -1)) == (int64_t)shard) return row;
    }
    return NULL;
}

void cluster_status_levels(const struct cluster_status *s, uint8_t *min, uint8_t *max) {
    *min = program_level((uint64_t)value_int(s->map, "level_min", 0));
    *max = program_level((uint64_t)value_int(s->map, "level_max", 0));
}

/* -- words ------------------------------------------------------------------------------------- */

const char *cluster_shard_name(uint32_t shard, char buffer[16]) {
    if (shard == SHARD_META) return "meta";
    snprintf(buffer, 16, "%u", shard);
    return buffer;
}

bool cluster_shard_word(struct cli *cli, const char *text, uint32_t *shard) {
    int64_t number = 0;
    *shard = SHARD_META;
    if (strcmp(text, "meta") == 0) return true;
    if (!text_parse_int64(text, &number) || number < 0 || number >= SHARDS_MAX) {
        cli_usage(cli, "\"%.40s\" is no shard: a number from 0 to %d, or meta", text,
                  SHARDS_MAX - 1);
        return false;
    }
    *shard = (uint32_t)number;
    return true;
}

bool cluster_node_word(struct cli *cli, const char *text, uint32_t *node) {
    int64_t number = 0;
    if (!text_parse_int64(text, &number) || number < 1 || number > UINT32_MAX) {
        cli_usage(cli, "\"%.40s\" is no node: a number from 1 on (see jumun cluster status)", text);
        return false;
    }
    *node = (uint32_t)number;
    return true;
}
