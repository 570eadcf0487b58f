#include "engine/replica/replica_config.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/wire/address.h"

static const char replica_doc[] =
    "A query replica of Jumun: follows the logs of all shards and answers every question that the "
    "nodes should not be asked."
    "\v"
    "Once it has caught up with every shard, it prints one line:\n"
    "  jumun-replica ready: tcp://127.0.0.1:7500 pid=4711\n"
    "It answers before that too, and says how old its answers are and which shards they lack; as "
    "long as it has reached no node it refuses every question with not_ready. SIGTERM or SIGINT: "
    "closes and exits.\n"
    "\n"
    "Exit codes: 0 stopped on request; 1 failed while running, or could not listen or open its "
    "directory; 2 the command line makes no sense.";

enum {
    OPTION_DATA = 'd', OPTION_LISTEN = 'l', OPTION_NODES = 'n', OPTION_FROM = 'f',
    OPTION_NOTIFY = 256,
    OPTION_CONTEXTS, OPTION_HEARTBEAT, OPTION_MEMORY, OPTION_MAP, OPTION_SYNC, OPTION_LOG_LEVEL,
    OPTION_READY_FD, OPTION_NICE, OPTION_TLS_CERT, OPTION_TLS_KEY, OPTION_TLS_CA
};

static const struct argp_option replica_options[] = {
    {"nodes", OPTION_NODES, "URL,...", 0, "General endpoints of the nodes to follow; any that has "
     "a shard will do (default: tcp://127.0.0.1:7400)", 0},
    {"from", OPTION_FROM, "URL,...", 0, "Replicas of the same cluster to take the views of when "
     "the directory has none yet; when none gives them within 10 s, or no node is there to tell "
     "the cluster, they are made from the logs", 0},
    {"data", OPTION_DATA, "DIR", 0, "Directory of the views, made when it is not there (default: "
     "./jumun-replica-data)", 0},
    {"listen", OPTION_LISTEN, "URL", 0, "Address of the queries; port 0 takes a free one (default: "
     "tcp://127.0.0.1:7500)", 0},
    {"notify-listen", OPTION_NOTIFY, "URL", 0, "Address of notifications, or \"none\" (default: "
     "that of --listen with the next port)", 0},
    {"contexts", OPTION_CONTEXTS, "N", 0, "Messages in the replica at a time, those that wait "
     "included (default: 1024)", 0},
    {"heartbeat-ms", OPTION_HEARTBEAT, "MS", 0, "How often a node says that there is nothing new: "
     "no answer is known to be younger (default: 100)", 0},
    {"memory", OPTION_MEMORY, "BYTES", 0, "Orders that are kept in memory to be changed, such as "
     "1G (default: 256M)", 0},
    {"map-size", OPTION_MAP, "BYTES", 0, "Addresses for the views; a bound, no memory (default: "
     "256G)", 0},
    {"sync", OPTION_SYNC, NULL, 0, "Sync each transaction: the views survive a power cut instead "
     "of being built anew", 0},
    {"nice", OPTION_NICE, "N", 0, "Nice value of the thread that makes changes visible, -20 to 19, "
     "where it is permitted: on a machine without a processor to spare it decides how soon they "
     "are (default: -10)", 0},
    {"tls-cert", OPTION_TLS_CERT, "FILE", 0, "Certificate of this replica (PEM), for addresses "
     "with tls+tcp:// (default: JUMUN_TLS_CERT of the environment)", 0},
    {"tls-key", OPTION_TLS_KEY, "FILE", 0, "Key of that certificate (default: JUMUN_TLS_KEY)", 0},
    {"tls-ca", OPTION_TLS_CA, "FILE", 0, "Certificates of those who sign: nodes and clients must "
     "have one of theirs (default: JUMUN_TLS_CA)", 0},
    {"log-level", OPTION_LOG_LEVEL, "LEVEL", 0, "error, warn, info or debug (default: info)", 0},
    {"ready-fd", OPTION_READY_FD, "FD", 0, "Descriptor that gets the ready line (default: stdout)",
     0},
    {NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0},
    {0}};

static _Noreturn void refuse(const char *option, const char *wanted, const char *text) {
    fprintf(stderr, "jumun-replica: --%s must be %s, not \"%s\"\n", option, wanted, text);
    exit(REPLICA_EXIT_USAGE);
}

static uint64_t number(const char *option, const char *text, uint64_t min, uint64_t max) {
    char *end, wanted[96];
    errno = 0;
    unsigned long long v = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (*text >= '0' && *text <= '9' && errno == 0 && *end == 0 && v >= min && v <= max) return v;
    snprintf(wanted, sizeof wanted, "a number from %llu to %llu", (unsigned long long)min,
             (unsigned long long)max);
    refuse(option, wanted, text);
}

static uint64_t bytes(const char *option, const char *text, uint64_t min) {
    static const char units[] = "KMGT";
    char *end = NULL;
    errno = 0;
    unsigned long long v = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    const char *unit = end && *end != 0 && end[1] == 0 ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    bool good = end && errno == 0 && (*end == 0 || unit) && v <= UINT64_MAX >> shift;
    if (!good || (uint64_t)v << shift < min) refuse(option, "a size such as 64M or 4G", text);
    return (uint64_t)v << shift;
}

static void text_of(const char *option, const char *text, char *out, size_t out_bytes) {
    size_t size = strlen(text);
    if (size == 0 || size >= out_bytes) refuse(option, "a shorter text, and not empty", text);
    memcpy(out, text, size + 1);
}

/* Those that it dials: a word that is no address would be tried for ever. */
static void addresses(const char *option, const char *prefix, const char *text, char *out,
                      size_t out_bytes) {
    struct address_bad bad;
    text_of(option, text, out, out_bytes);
    if (!address_list_is_bad(text, prefix, &bad)) return;
    fprintf(stderr, "jumun-replica: --%s: \"%.*s\" %s: " ADDRESS_FORM "\n", option,
            (int)bad.size, bad.at, bad.fault);
    exit(REPLICA_EXIT_USAGE);
}

static void listen_address(const char *option, const char *text, char *out, size_t out_bytes) {
    text_of(option, text, out, out_bytes);
    const char *fault = address_listen_fault(text);
    if (!fault) return;
    fprintf(stderr, "jumun-replica: --%s: \"%s\" %s: " ADDRESS_FORM_ONE "\n", option, text, fault);
    exit(REPLICA_EXIT_USAGE);
}

static error_t option(int key, char *arg, struct argp_state *state) {
    struct replica_config *c = state->input;
    switch (key) {
    case OPTION_NODES: addresses("nodes", "feed:", arg, c->nodes, sizeof c->nodes); break;
    case OPTION_FROM: addresses("from", NULL, arg, c->from, sizeof c->from); break;
    case OPTION_DATA: text_of("data", arg, c->data, sizeof c->data); break;
    case OPTION_LISTEN: listen_address("listen", arg, c->listen, sizeof c->listen); break;
    case OPTION_NOTIFY:
        if (strcmp(arg, "none") == 0) text_of("notify-listen", arg, c->notify_listen, 5);
        else listen_address("notify-listen", arg, c->notify_listen, sizeof c->notify_listen);
        break;
    case OPTION_CONTEXTS: c->contexts = (uint32_t)number("contexts", arg, 64, 65536); break;
    case OPTION_HEARTBEAT:
        c->heartbeat_ms = (uint32_t)number("heartbeat-ms", arg, 1, FEED_WAIT_MS_MAX);
        break;
    case OPTION_MEMORY: c->memory_bytes = bytes("memory", arg, 1u << 20); break;
    case OPTION_MAP: c->map_bytes = bytes("map-size", arg, 16u << 20); break;
    case OPTION_SYNC: c->synced = true; break;
    case OPTION_NICE:
        c->nice = *arg == '-' ? -(int)number("nice", arg + 1, 0, 20)
                              : (int)number("nice", arg, 0, 19);
        break;
    case OPTION_LOG_LEVEL:
        c->log_level = log_level_of(arg);
        if (c->log_level < 0) refuse("log-level", "error, warn, info or debug", arg);
        break;
    case OPTION_TLS_CERT: setenv("JUMUN_TLS_CERT", arg, 1); break;
    case OPTION_TLS_KEY: setenv("JUMUN_TLS_KEY", arg, 1); break;
    case OPTION_TLS_CA: setenv("JUMUN_TLS_CA", arg, 1); break;
    case OPTION_READY_FD: c->ready_fd = (int)number("ready-fd", arg, 1, 1u << 20); break;
    case 'h': argp_state_help(state, stdout, ARGP_HELP_STD_HELP); break;
    case ARGP_KEY_ARG:
        fprintf(stderr, "jumun-replica: \"%s\" is not an option; see --help\n", arg);
        exit(REPLICA_EXIT_USAGE);
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void replica_config_defaults(struct replica_config *config) {
    *config = (struct replica_config){.data = "./jumun-replica-data",
                                      .nodes = "tcp://127.0.0.1:7400",
                                      .listen = "tcp://127.0.0.1:7500",
                                      .log_level = LOG_LEVEL_INFO,
                                      .nice = -10,
                                      .ready_fd = 1};
}

void replica_config_parse(struct replica_config *config, int argc, char **argv) {
    static const struct argp argp = {replica_options, option, NULL, replica_doc, NULL, NULL, NULL};
    argp_program_version = "jumun-replica " JUMUN_VERSION;
    argp_err_exit_status = REPLICA_EXIT_USAGE;
    replica_config_defaults(config);
    argp_parse(&argp, argc, argv, 0, NULL, config);
}
