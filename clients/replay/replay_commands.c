/* The table of commands: words, options, help, functions. */
#include "clients/replay/replay.h"

const struct args_option replay_global_options[] = {
    {"json", 'j', NULL, "print JSON", NULL},
    {"quiet", 'q', NULL, "no progress, and only what was asked for", NULL},
    {"shard", 's', "N", "only this shard", NULL},
    {"threads", 0, "N", "shards at a time (default: one per core)", NULL},
    {"memory", 0, "MIB", "of orders' blocks in memory, all shards together (default 256); more go "
     "to a scratch file", NULL},
    {"scratch", 0, "DIR", "where that file is made (default TMPDIR or /tmp)", "@file"},
    {"color", 0, "WHEN", "auto, always or never", "auto|always|never"},
    {"version", 'V', NULL, "print the version", NULL},
    {"help", 'h', NULL, "this help", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option verify_options[] = {
    {"at", 0, "MOMENT", "only the log up to then (the stored state is left out)", NULL},
    {"log-only", 0, NULL, "leave out the stored state", NULL},
    {"hash", 0, NULL, "tell the hash of each shard's state at its last record", NULL},
    {"against", 'a', "OTHER", "compare the state's hash with another directory's, or with what "
     "hash --json wrote to a .json file; may be given again", "@file"},
    {"max-faults", 0, "N", "show so many at most (default 1000); all are counted", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option hash_options[] = {
    {"at", 0, "MOMENT", "at this moment (default: the newest record)", NULL},
    {NULL, 0, NULL, NULL, NULL}};

const struct replay_command replay_commands[] = {
    {"verify", "SOURCE", "Proves the log, the state and what shards told each other",
     "Checks every record's checksum, that indices, versions and the links between events have no\n"
     "gap, that every order keeps its invariants after every event, that what is stored is the\n"
     "fold of the events, and that every message between shards was seen once and as it was sent.\n"
     "Each fault is a line: what, shard, segment, record, offset in its data.mdb, order.\n"
     "Works beside a running node, which is never made to wait.",
     "jumun-replay verify jumun-data\n"
     "jumun-replay verify jumun-data --against other-node/jumun-data\n"
     "jumun-replay verify backup --json | jq .faults",
     verify_options, 1, 1, replay_verify},
    {"hash", "SOURCE", "Tells a hash of the state, equal on every node that has it",
     "One line a shard: shard, record, hash, number of actors.",
     "jumun-replay hash jumun-data --json > here.json\n"
     "jumun-replay verify jumun-data --against here.json",
     hash_options, 1, 1, replay_hash},
    {NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL}};
