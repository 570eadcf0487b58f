/* What an operator can set: the command line of jumund. */
#ifndef JUMUN_NODE_CONFIG_H
#define JUMUN_NODE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/limits.h"

/* Exit codes of jumund. */
enum {
    EXIT_DONE = 0,    /* stopped on request */
    EXIT_RUNTIME = 1, /* port in use, no memory, lost disk, ... */
    EXIT_USAGE = 2,   /* the command line makes no sense */
    EXIT_DATA = 3     /* the data directory: locked, not writable, made otherwise, damaged */
};

struct config {
    char data[4096];                  /* directory */
    char listen[ENDPOINT_BYTES_MAX];  /* nng address of the general endpoint */
    bool listen_given;                /* on the command line; else a cluster's file tells it */
    char cluster[4096];               /* describes the cluster; "" = as the directory is */
    bool cluster_wait;                /* an unformed directory waits for its cluster */
    bool recover_alone, recover_dry;  /* make (or only look at) a node alone, and exit */
    bool recover_json;                /* tell it as JSON */
    char peer_listen[ENDPOINT_BYTES_MAX]; /* for other nodes; "" = as the file has it */
    char tls_certificate[4096], tls_key[4096], tls_authority[4096]; /* PEM files; "" = none */
    uint64_t catch_up_log_bytes;          /* of a shard: who lacks more is sent its state */
    uint64_t catch_up_bytes_per_second;   /* bound of what followers that lag are sent */
    char feed_listen[ENDPOINT_BYTES_MAX];   /* of the feed; "" = by `listen`, "none" = no feed */
    int feed_nice;                    /* of its threads, where permitted; 0 = as they are */
    char notify_listen[ENDPOINT_BYTES_MAX]; /* of its notifications; likewise */
    uint32_t shards;                  /* 0 = as the directory has, or one per core for a new one */
    bool pin;
    bool patient;              /* priority_patient() */
    uint64_t node_id;                 /* 0 = as the directory has, or 1 for a new one */
    uint32_t mailbox_commands;        /* per shard */
    uint32_t contexts;                /* messages in the node at a time, per endpoint */
    uint64_t memory_bytes_max;        /* of actors, whole node; 0 = no bound */
    int64_t checkpoint_age_ms;
    int64_t retention_ms;
    int64_t scrub_period_ms;          /* everything on disk is looked at once in it; 0 = never */
    uint64_t segment_bytes;           /* of one log segment */
    int log_level;                    /* enum log_level */
    int ready_fd;                     /* the ready line goes here; 1 = stdout */
};

/* Fills `config` from the command line. Prints --help and --version itself and exits with 0, and
 * with EXIT_USAGE and a sentence on stderr when something makes no sense. */
void config_parse(struct config *config, int argc, char **argv);

/* The same without exit: 0, or -1 with a sentence in error. Does not know --help. */
int config_read(struct config *config, int argc, char **argv, char *error, size_t error_bytes);

/* "64M", "2G", "1000" -> bytes (K, M, G, T are powers of 1,024). False for anything else. */
bool config_bytes_of(const char *text, uint64_t *bytes);

/* "7d", "12h", "30m", "90s" -> milliseconds, and "0". False for anything else. */
bool config_span_of(const char *text, int64_t *ms);

#endif
