#include "engine/node/config.h"

#include <argp.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/program.h"
#include "engine/wire/address.h"

static const char config_doc[] =
    "The engine node of Jumun: takes orders over nng, decides them in memory, keeps them in an "
    "event log on disk, and answers when they are durable."
    "\v"
    "Shard s listens on the port behind --listen plus s (port 7400: shard 0 on 7401, shard 1 on "
    "7402, ...). Once it serves, it prints one line:\n"
    "  jumund ready: tcp://127.0.0.1:7400 shards=2 pid=4711\n"
    "SIGTERM or SIGINT: stops taking commands, finishes those it took, stores everything, exits. "
    "A second signal: exits at once (nothing acknowledged is lost).\n"
    "\n"
    "Exit codes: 0 stopped on request; 1 failed while running, or could not listen; 2 the command "
    "line makes no sense; 3 the data directory is locked, not writable, damaged, or was made with "
    "other settings, or another version is needed; 130, 143 ended by a second SIGINT, SIGTERM.";

enum {
    OPTION_DATA = 'd', OPTION_LISTEN = 'l', OPTION_SHARDS = 's', OPTION_NO_PIN = 256,
    OPTION_PATIENT,
    OPTION_NODE_ID, OPTION_MAILBOX, OPTION_CONTEXTS, OPTION_MEMORY, OPTION_CHECKPOINT_AGE,
    OPTION_FEED, OPTION_NOTIFY, OPTION_CLUSTER, OPTION_PEER_LISTEN, OPTION_TLS_CERT,
    OPTION_TLS_KEY, OPTION_TLS_CA, OPTION_CATCH_UP, OPTION_CATCH_UP_LOG, OPTION_RETENTION,
    OPTION_SEGMENT, OPTION_SCRUB, OPTION_LOG_LEVEL, OPTION_READY_FD, OPTION_FEED_NICE,
    OPTION_CLUSTER_WAIT, OPTION_RECOVER, OPTION_RECOVER_DRY,
    OPTION_RECOVER_JSON
};

static const struct argp_option config_options[] = {
    {"data", OPTION_DATA, "DIR", 0, "Directory of the log and the orders, made when it is not "
     "there (default: ./jumun-data)", 0},
    {"listen", OPTION_LISTEN, "URL", 0, "Address of the general endpoint; port 0 takes free ports "
     "(default: tcp://127.0.0.1:7400)", 0},
    {"feed-listen", OPTION_FEED, "URL", 0, "Address at which replicas follow the log, or \"none\" "
     "(default: 2 ports below --listen, or any free port)", 0},
    {"feed-nice", OPTION_FEED_NICE, "N", 0, "Nice value of the threads that serve it, -20 to 19, "
     "where it is permitted (default: -10)", 0},
    {"notify-listen", OPTION_NOTIFY, "URL", 0, "Address of notifications, or \"none\" (default: "
     "1 port below --listen, or any free port)", 0},
    {"shards", OPTION_SHARDS, "N", 0, "Number of shards, one thread each; a directory keeps the "
     "number that it was made with (default: one per core)", 0},
    {"no-pin", OPTION_NO_PIN, NULL, 0, "Let the system choose the cores of the shards' threads", 0},
    {"patient", OPTION_PATIENT, NULL, 0, "Threads that are woken wait for their turn: more "
     "commands a second where the node fills the machine, later answers beside other busy "
     "programs", 0},
    {"node-id", OPTION_NODE_ID, "N", 0, "Number of this node in its cluster (default: 1)", 0},
    {"cluster", OPTION_CLUSTER, "FILE", 0, "Run as a node of the cluster that this JSON file "
     "describes (docs/operations.md); needs --node-id in a new directory", 0},
    {"cluster-wait", OPTION_CLUSTER_WAIT, NULL, 0, "Serve nothing until the node is taken into a "
     "cluster (jumun cluster form, join, add, replace); without effect from then on", 0},
    {"recover-alone", OPTION_RECOVER, NULL, 0, "Make a node alone of what this directory of a lost "
     "cluster has, and exit: see jumun cluster recover", 0},
    {"recover-alone-dry", OPTION_RECOVER_DRY, NULL, 0, "Only tell what it has", 0},
    {"recover-json", OPTION_RECOVER_JSON, NULL, 0, "Tell it as JSON", 0},
    {"peer-listen", OPTION_PEER_LISTEN, "URL", 0, "Address for other nodes, which takes this port "
     "and the next one (default: as the cluster has it; with --cluster-wait 4 ports below "
     "--listen)", 0},
    {"catch-up-rate", OPTION_CATCH_UP, "BYTES", 0, "Bytes a second that followers which lag are "
     "sent from the log at most, and that a gap in the history here is filled with (default: 32M)",
     0},
    {"catch-up-log", OPTION_CATCH_UP_LOG, "BYTES", 0, "A follower that lacks more of a shard's "
     "log, and more than the shard's stored orders take, is sent those instead (default: 1G)", 0},
    {"tls-cert", OPTION_TLS_CERT, "FILE", 0, "Certificate of this node (PEM), for addresses with "
     "tls+tcp://", 0},
    {"tls-key", OPTION_TLS_KEY, "FILE", 0, "Key of that certificate (PEM)", 0},
    {"tls-ca", OPTION_TLS_CA, "FILE", 0, "Certificates of those who sign (PEM): whoever connects "
     "must have a certificate of theirs", 0},
    {"mailbox-commands", OPTION_MAILBOX, "N", 0, "Commands that may wait at a shard; more are "
     "answered \"overloaded\" (default: 65536)", 0},
    {"contexts", OPTION_CONTEXTS, "N", 0, "Messages in the node at a time, per endpoint "
     "(default: 1024)", 0},
    {"memory-max", OPTION_MEMORY, "BYTES", 0, "Bound of the memory of orders, such as 4G "
     "(default: none)", 0},
    {"checkpoint-age-ms", OPTION_CHECKPOINT_AGE, "MS", 0, "How long a changed order settles before "
     "its state is stored beside the log (default: 2000)", 0},
    {"retention-days", OPTION_RETENTION, "DAYS", 0, "How long the log is kept (default: 30)", 0},
    {"segment-bytes", OPTION_SEGMENT, "BYTES", 0, "Size at which a log segment is closed "
     "(default: 4G)", 0},
    {"scrub-period", OPTION_SCRUB, "SPAN", 0, "Everything on the disk is read back and looked at "
     "once in this time, such as 7d or 12h; 0 = never (default: 7d)", 0},
    {"log-level", OPTION_LOG_LEVEL, "LEVEL", 0, "error, warn, info or debug (default: info)", 0},
    {"ready-fd", OPTION_READY_FD, "FD", 0, "Descriptor that gets the ready line (default: stdout)",
     0},
    {NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0},
    {0}};

struct config_state {
    struct config *config;
    char *error;
    size_t error_bytes;
    bool quiet;        /* no help, no exit */
};

__attribute__((format(printf, 2, 3))) static error_t config_refuse(struct config_state *s,
                                                                    const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(s->error, s->error_bytes, format, args);
    va_end(args);
    return EINVAL;
}

static bool config_number_of(const char *text, uint64_t *value) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || *end != 0) return false;
    *value = v;
    return true;
}

bool config_bytes_of(const char *text, uint64_t *bytes) {
    static const char units[] = "KMGT";
    char *end;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0) return false;
    unsigned shift = 0;
    if (*end != 0) {
        const char *unit = strchr(units, *end);
        if (!unit || end[1] != 0) return false;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (v > UINT64_MAX >> shift) return false;
    *bytes = (uint64_t)v << shift;
    return true;
}

bool config_span_of(const char *text, int64_t *ms) {
    static const struct { char unit; int64_t ms; } units[] = {
        {'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    char *end;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || v > INT64_MAX / 86400000) return false;
    *ms = 0;
    if (v == 0 && *end == 0) return true;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (*end != units[i].unit || end[1] != 0) continue;
        *ms = (int64_t)v * units[i].ms;
        return true;
    }
    return false;
}

static error_t config_number(struct config_state *s, const char *option, const char *text,
                             uint64_t min, uint64_t max, uint64_t *value) {
    if (config_number_of(text, value) && *value >= min && *value <= max) return 0;
    return config_refuse(s, "--%s must be a number from %llu to %llu, not \"%s\"", option,
                         (unsigned long long)min, (unsigned long long)max, text);
}

static error_t config_bytes(struct config_state *s, const char *option, const char *text,
                            uint64_t min, uint64_t *value) {
    if (config_bytes_of(text, value) && *value >= min) return 0;
    return config_refuse(s, "--%s must be a size of at least %llu bytes, such as 64M or 4G, not "
                         "\"%s\"", option, (unsigned long long)min, text);
}

static error_t config_span(struct config_state *s, const char *option, const char *text,
                           int64_t max_ms, int64_t *ms) {
    if (config_span_of(text, ms) && *ms <= max_ms) return 0;
    return config_refuse(s, "--%s must be a time of at most %lld days, such as 7d, 12h or 90s, or "
                         "0, not \"%s\"", option, (long long)(max_ms / 86400000), text);
}

static error_t config_text(struct config_state *s, const char *option, const char *text, char *out,
                           size_t out_bytes) {
    size_t bytes = strlen(text);
    if (bytes > 0 && bytes < out_bytes) {
        memcpy(out, text, bytes + 1);
        return 0;
    }
    return config_refuse(s, "--%s must be 1 to %zu bytes long", option, out_bytes - 1);
}

/* `word` may stand instead of an address; NULL = none. */
static error_t config_address(struct config_state *s, const char *option, const char *text,
                              const char *word, char *out, size_t out_bytes) {
    error_t rc = config_text(s, option, text, out, out_bytes);
    if (rc != 0 || (word && strcmp(text, word) == 0)) return rc;
    const char *fault = address_listen_fault(text);
    if (!fault) return 0;
    return config_refuse(s, "--%s: \"%s\" %s: " ADDRESS_FORM_ONE, option, text, fault);
}

static error_t config_log_level(struct config_state *s, const char *text) {
    s->config->log_level = log_level_of(text);
    if (s->config->log_level >= 0) return 0;
    return config_refuse(s, "--log-level must be error, warn, info or debug, not \"%s\"", text);
}

static error_t config_nice(struct config_state *s, const char *text, int *nice) {
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || *end != 0 || v < -20 || v > 19)
        return config_refuse(s, "--feed-nice must be a number from -20 to 19, not \"%s\"", text);
    *nice = (int)v;
    return 0;
}

/* Options whose value is a number, and what is done with it. */
static error_t config_option_number(struct config_state *s, int key, const char *arg) {
    struct config *c = s->config;
    uint64_t v = 0;
    error_t rc;
    switch (key) {
    case OPTION_SHARDS:
        rc = config_number(s, "shards", arg, 1, SHARDS_MAX, &v);
        c->shards = (uint32_t)v;
        return rc;
    case OPTION_NODE_ID:
        rc = config_number(s, "node-id", arg, 1, UINT32_MAX, &v);
        c->node_id = v;
        return rc;
    case OPTION_MAILBOX:
        rc = config_number(s, "mailbox-commands", arg, BATCH_COMMANDS_MAX, 1u << 24, &v);
        c->mailbox_commands = (uint32_t)v;
        return rc;
    case OPTION_CONTEXTS:
        rc = config_number(s, "contexts", arg, 2 * INGRESS_CONTEXTS_SPARE, INGRESS_CONTEXTS_MAX,
                           &v);
        c->contexts = (uint32_t)v;
        return rc;
    case OPTION_CHECKPOINT_AGE:
        rc = config_number(s, "checkpoint-age-ms", arg, 1, 3600000, &v);
        c->checkpoint_age_ms = (int64_t)v;
        return rc;
    case OPTION_RETENTION:
        rc = config_number(s, "retention-days", arg, 1, 3650, &v);
        c->retention_ms = (int64_t)v * 86400000;
        return rc;
    case OPTION_READY_FD:
        rc = config_number(s, "ready-fd", arg, 1, 1u << 20, &v);
        c->ready_fd = (int)v;
        return rc;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* Options of a cluster whose value is a text. */
static error_t config_option_cluster(struct config_state *s, int key, const char *arg) {
    struct config *c = s->config;
    switch (key) {
    case OPTION_CLUSTER: return config_text(s, "cluster", arg, c->cluster, sizeof c->cluster);
    case OPTION_CLUSTER_WAIT: c->cluster_wait = true; return 0;
    case OPTION_RECOVER_DRY: c->recover_dry = true; /* fall through */
    case OPTION_RECOVER: c->recover_alone = true; return 0;
    case OPTION_RECOVER_JSON: c->recover_json = true; return 0;
    case OPTION_PEER_LISTEN:
        return config_address(s, "peer-listen", arg, NULL, c->peer_listen, sizeof c->peer_listen);
    case OPTION_TLS_CERT:
        return config_text(s, "tls-cert", arg, c->tls_certificate, sizeof c->tls_certificate);
    case OPTION_TLS_KEY: return config_text(s, "tls-key", arg, c->tls_key, sizeof c->tls_key);
    case OPTION_TLS_CA:
        return config_text(s, "tls-ca", arg, c->tls_authority, sizeof c->tls_authority);
    default: return config_option_number(s, key, arg);
    }
}

/* What makes no sense together. */
static error_t config_check(struct config_state *s) {
    const struct config *c = s->config;
    if ((c->tls_certificate[0] != 0) != (c->tls_key[0] != 0))
        return config_refuse(s, "--tls-cert and --tls-key go together");
    if (c->cluster[0] != 0 && c->shards != 0)
        return config_refuse(s, "--shards is told by the cluster's file: leave it away");
    if (c->cluster[0] == 0 && !c->cluster_wait && c->peer_listen[0] != 0)
        return config_refuse(s, "--peer-listen goes with --cluster-wait, which stays once the node "
                                "is one of a cluster, or with --cluster");
    if (c->cluster[0] != 0 && c->cluster_wait)
        return config_refuse(s, "--cluster and --cluster-wait exclude each other");
    return 0;
}

static error_t config_option(int key, char *arg, struct argp_state *state) {
    struct config_state *s = state->input;
    struct config *c = s->config;
    error_t rc;
    switch (key) {
    case ARGP_KEY_END: rc = config_check(s); break;
    case OPTION_DATA: rc = config_text(s, "data", arg, c->data, sizeof c->data); break;
    case OPTION_LISTEN:
        c->listen_given = true;
        rc = config_address(s, "listen", arg, NULL, c->listen, sizeof c->listen);
        break;
    case OPTION_FEED:
        rc = config_address(s, "feed-listen", arg, "none", c->feed_listen, sizeof c->feed_listen);
        break;
    case OPTION_NOTIFY:
        rc = config_address(s, "notify-listen", arg, "none", c->notify_listen,
                            sizeof c->notify_listen);
        break;
    case OPTION_FEED_NICE: rc = config_nice(s, arg, &c->feed_nice); break;
    case OPTION_NO_PIN: c->pin = false; return 0;
    case OPTION_PATIENT: c->patient = true; return 0;
    case OPTION_CATCH_UP_LOG:
        return config_bytes(s, "catch-up-log", arg, 1u << 20, &c->catch_up_log_bytes);
    case OPTION_CATCH_UP:
        rc = config_bytes(s, "catch-up-rate", arg, 64u << 10, &c->catch_up_bytes_per_second);
        break;
    case OPTION_MEMORY:
        rc = config_bytes(s, "memory-max", arg, 16u << 20, &c->memory_bytes_max);
        break;
    case OPTION_SEGMENT:
        rc = config_bytes(s, "segment-bytes", arg, 64u << 20, &c->segment_bytes);
        break;
    case OPTION_SCRUB:
        rc = config_span(s, "scrub-period", arg, SCRUB_PERIOD_MS_MAX, &c->scrub_period_ms);
        break;
    case OPTION_LOG_LEVEL: rc = config_log_level(s, arg); break;
    case 'h': argp_state_help(state, stdout, ARGP_HELP_STD_HELP); return 0;
    case ARGP_KEY_ARG:
        rc = config_refuse(s, "\"%s\" is not an option; see --help", arg);
        break;
    default: rc = config_option_cluster(s, key, arg); break;
    }
    if (rc == EINVAL && !s->quiet) {
        fprintf(stderr, "jumund: %s\n", s->error);
        exit(EXIT_USAGE);
    }
    return rc;
}

static void config_defaults(struct config *config) {
    *config = (struct config){.data = "./jumun-data",
                              .listen = "tcp://127.0.0.1:7400",
                              .pin = true,
                              .mailbox_commands = MAILBOX_COMMANDS_MAX,
                              .contexts = INGRESS_CONTEXTS_DEFAULT,
                              .checkpoint_age_ms = CHECKPOINT_AGE_MS,
                              .retention_ms = RETENTION_MS,
                              .scrub_period_ms = SCRUB_PERIOD_MS,
                              .segment_bytes = SEGMENT_BYTES_MAX,
                              .catch_up_bytes_per_second = CATCH_UP_BYTES_PER_SECOND,
                              .catch_up_log_bytes = TRAIL_BYTES,
                              .feed_nice = -10,
                              .log_level = LOG_LEVEL_INFO,
                              .ready_fd = 1};
}

static const struct argp config_argp = {config_options, config_option, NULL, config_doc,
                                        NULL, NULL, NULL};

void config_parse(struct config *config, int argc, char **argv) {
    char error[512] = "";
    struct config_state s = {config, error, sizeof error, false};
    static char version[64];
    snprintf(version, sizeof version, "jumund %s", program.version);
    argp_program_version = version;
    argp_err_exit_status = EXIT_USAGE;
    config_defaults(config);
    argp_parse(&config_argp, argc, argv, 0, NULL, &s);
}

int config_read(struct config *config, int argc, char **argv, char *error, size_t error_bytes) {
    struct config_state s = {config, error, error_bytes, true};
    error[0] = 0;
    config_defaults(config);
    error_t rc = argp_parse(&config_argp, argc, argv,
                            ARGP_NO_EXIT | ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &s);
    if (rc == 0) return 0;
    if (error[0] == 0) snprintf(error, error_bytes, "unknown option; see --help");
    return -1;
}
