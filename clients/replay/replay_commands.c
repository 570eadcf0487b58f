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
    {"patience", 0, "TIME", "how long a node that is read from may be away (default 30s)", NULL},
    {"tls-ca", 0, "FILE", "who signs the nodes' certificates, for tls+tcp:// (JUMUN_TLS_CA)",
     "@file"},
    {"tls-cert", 0, "FILE", "own certificate, where nodes ask for one (JUMUN_TLS_CERT)", "@file"},
    {"tls-key", 0, "FILE", "key of that certificate (JUMUN_TLS_KEY)", "@file"},
    {"color", 0, "WHEN", "auto, always or never", "auto|always|never"},
    {"version", 'V', NULL, "print the version", NULL},
    {"help", 'h', NULL, "this help", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option verify_options[] = {
    {"at", 0, "MOMENT", "only the log up to then (the stored state is left out)", NULL},
    {"log-only", 0, NULL, "leave out the stored state", NULL},
    {"hash", 0, NULL, "tell the hash of each shard's state at its last record", NULL},
    {"against", 'a', "OTHER", "compare the state's hash with that of another directory or "
     "node, or with what hash --json wrote to a .json file; may be given again", "@file"},
    {"max-faults", 0, "N", "show so many of each kind in a shard (default 20), or \"all\"; all are "
     "counted", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option hash_options[] = {
    {"at", 0, "MOMENT", "at this moment (default: the newest record)", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option history_options[] = {
    {"at", 0, "MOMENT", "only what had happened by then", NULL},
    {"timeline", 't', NULL, "drawn as a line of time", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option state_options[] = {
    {"at", 0, "MOMENT", "at this moment (default: the newest record)", NULL},
    {"all", 'a', NULL, "all orders; with --json one a line", NULL},
    {"stores", 0, NULL, "all stores, with their counts", NULL},
    {"state", 0, "STATE", "with --all: only orders in this state; may be given again",
     "awaited|placed|paid|accepted|ready|picked_up|delivered|completed|rejected|cancelled|expired"},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option diff_options[] = {
    {"from", 0, "MOMENT", "with one source: from here", NULL},
    {"to", 0, "MOMENT", "to here (default: the newest record)", NULL},
    {"at", 0, "MOMENT", "with two sources: at this moment (default: the newest record of both)",
     NULL},
    {"limit", 'n', "N", "show so many at most; all are counted", NULL},
    {NULL, 0, NULL, NULL, NULL}};

/* Of export and republish. */
#define EXPORT_OPTIONS                                                                             \
    {"format", 'f', "FORMAT", "jsonl (default), csv or msgpack", "jsonl|csv|msgpack"},             \
    {"output", 'o', "FILE", "instead of standard output", "@file"},                                \
    {"from", 0, "MOMENT", "from here (a time: what came behind it)", NULL},                        \
    {"to", 0, "MOMENT", "up to here", NULL},                                                       \
    {"kind", 'k', "KIND", "only these kinds of events (order_placed,...); may be given again",     \
     NULL},                                                                                        \
    {"order", 0, "KEY", "only this order; may be given again", NULL},                              \
    {"store", 0, "ID", "only orders of this store; may be given again", NULL},                     \
    {"customer", 0, "ID", "only orders of this customer; may be given again", NULL},               \
    {"fields", 0, "LIST", "only these fields: index,time_ms,action,info.total,...; store and "     \
     "customer tell the order's", NULL},                                                           \
    {"messages", 0, NULL, "messages between shards as well", NULL},                                \
    {"continue", 0, "FILE", "go on where the run before stopped: FILE keeps the place, which "     \
     "goes before --from, and the end of --output, which is gone on with", "@file"}

static const struct args_option export_options[] = {
    EXPORT_OPTIONS,
    {"follow", 0, NULL, "go on with what comes, until Ctrl-C or --until; FILE of --continue keeps "
     "the place all the time", NULL},
    {"until", 0, "TIME", "with --follow: end at this time, or after so long (10m)", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option republish_options[] = {
    {"into", 'e', "ENDPOINT", "to the subscriber at this address, until it has acknowledged all; "
     "with --continue, FILE keeps what it has", NULL},
    EXPORT_OPTIONS,
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option stats_options[] = {
    {"from", 0, "TIME", "count what came at or behind this time", NULL},
    {"to", 0, "MOMENT", "up to here", NULL},
    {"bucket", 0, "TIME", "width of the series (default 50ms for up to 5 s, 1s for up to ten "
     "minutes, else 1m)", NULL},
    {"stores", 0, "N", "tell of so many stores (default 10)", NULL},
    {"plot", 'p', "FILE", "draw rates and durations into a .png or .svg file (gnuplot)", "@file"},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option build_options[] = {
    {"to", 0, "MOMENT", "as it was then; shards are cut so that they fit together", NULL},
    {"node-id", 0, "N", "number of the node, when node.json is lost", NULL},
    {"continue", 0, NULL, "go on with a TARGET that a run which was stopped or killed has begun: "
     "shards that are finished stay", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option backup_options[] = {
    {"base", 0, NULL, "copy the stored state too: restores then need no older log", NULL},
    {"node", 0, "URL", "the node that runs on SOURCE, which tells how far its log is settled "
     "(default: the one that SOURCE tells)", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option what_if_options[] = {
    {"rules", 'r', "FILE", "the other build's libjumun_rules.so", "@file"},
    {"to", 0, "MOMENT", "only the log up to here", NULL},
    {"limit", 'n', "N", "show so many orders at most; all are counted", NULL},
    {NULL, 0, NULL, NULL, NULL}};

static const struct args_option play_options[] = {
    {"into", 'e', "ENDPOINT", "of the other cluster, such as tcp://127.0.0.1:7400", NULL},
    {"speed", 'x', "N", "times real time, such as 100x or 0.5x (default 1x); max: no waiting",
     NULL},
    {"from", 0, "MOMENT", "from here", NULL},
    {"to", 0, "MOMENT", "up to here", NULL},
    {"in-flight", 0, "N", "commands on their way at a time (default 4096)", NULL},
    {"keep-keys", 0, NULL, "keep the orders' keys (default: born anew, on the same shards)", NULL},
    {"scale-timeouts", 0, NULL, "divide the orders' timeouts by the speed", NULL},
    {"continue", 0, "FILE", "go on where the run before stopped, however it did: FILE keeps the "
     "last place that was acknowledged, and the speed", "@file"},
    {NULL, 0, NULL, NULL, NULL}};

const struct replay_command replay_commands[] = {
    {"verify", "SOURCE", "Proves the log, the state and what shards told each other",
     "Checks every record's checksum, that indices, versions and the links between events have no\n"
     "gap, that every order keeps its invariants after every event, that what is stored is the\n"
     "fold of the events, and that every message between shards was seen once and as it was sent.\n"
     "Each fault is a line: what, shard, segment, record, offset in its data.mdb, order.\n"
     "What is no fault but worth knowing is a note: a shard without stored state, a backup that\n"
     "cannot tell what its node had lost.\n"
     "Works beside a running node, which is never made to wait.",
     "jumun-replay verify jumun-data\n"
     "jumun-replay verify jumun-data --against other-node/jumun-data\n"
     "jumun-replay verify tcp://node-a:7400 --against tcp://node-b:7400\n"
     "jumun-replay verify backup --json | jq .faults",
     verify_options, 1, 1, replay_verify},
    {"hash", "SOURCE", "Tells a hash of the state, equal on every node that has it",
     "One line a shard: shard, record, hash, number of actors.",
     "jumun-replay hash jumun-data --json > here.json\n"
     "jumun-replay verify jumun-data --against here.json",
     hash_options, 1, 1, replay_hash},
    {"show", "SOURCE ORDER", "Tells one order's whole story",
     "The order as it is, and each of its steps: what was asked (and when, as the command's id\n"
     "tells), what was decided, where it is durable, and when its store's shard had the news.",
     "jumun-replay show jumun-data 01M7YE3TV54T2E6M385315KQAF",
     history_options, 2, 2, replay_show},
    {"history", "SOURCE ORDER", "Lists the events of one order",
     "With --json also the place of each in the log. Where a state is stored, the events are\n"
     "found by their links; else the log is read through.",
     "jumun-replay history jumun-data 01M7YE3TV54T2E6M385315KQAF --timeline",
     history_options, 2, 2, replay_history},
    {"state", "SOURCE [ORDER]...", "Shows orders as they were at a moment",
     "Keys of orders, or --all: then every order is a line.\n"
     "With --json each has \"as_of\": the record of its shard that it reflects.",
     "jumun-replay state jumun-data 01M7YE3TV54T2E6M385315KQAF --at 06:30\n"
     "jumun-replay state jumun-data --all --at -1h --state paid\n"
     "jumun-replay state backup --all --json > orders.jsonl",
     state_options, 1, 1000000, replay_state},
    {"diff", "SOURCE [OTHER]", "Lists the orders that differ between moments or sources",
     "One source: what changed between --from and --to. Two: what differs at the newest record\n"
     "that both have. With --json one difference a line, then their number. Exit 1 when there\n"
     "are any, or faults in a log.",
     "jumun-replay diff jumun-data --from -10m\n"
     "jumun-replay diff node-a/jumun-data tcp://node-b:7400",
     diff_options, 1, 2, replay_diff},
    {"export", "SOURCE", "Writes events as JSON lines, CSV or msgpack",
     "All shards together, by time. Filters add up; several of one kind are alternatives.",
     "jumun-replay export jumun-data --from -1h > events.jsonl\n"
     "jumun-replay export jumun-data -f csv --store store-7 --kind order_placed -o placed.csv\n"
     "jumun-replay export jumun-data --fields time_ms,action,store,info.total\n"
     "jumun-replay export jumun-data --continue place.json -o all.jsonl\n"
     "jumun-replay export tcp://node-a:7400 --from now --follow --kind order_placed",
     export_options, 1, 1, replay_export},
    {"republish", "SOURCE", "Writes or sends events again, marked as republished",
     "As export, with \"republished\": true in each event, so that whoever reads them knows that\n"
     "they are told a second time. --into sends them to a subscriber, which listens and answers\n"
     "for each message; one that is away is waited for (--patience), and what it did not\n"
     "acknowledge is sent again. The format: docs/protocol.md, republished events.",
     "jumun-replay republish jumun-data --order 01M7YE3TV54T2E6M385315KQAF -f msgpack -o again.mp\n"
     "jumun-replay republish tcp://node-a:7400 --from -1h --into tcp://mirror:7600\n"
     "jumun-replay republish jumun-data --kind order_placed --continue place.json \\\n"
     "    --into tcp://mirror:7600",
     republish_options, 1, 1, replay_republish},
    {"stats", "SOURCE", "Tells rates, how far orders came, and how long they stayed where",
     "Rates over time with the busiest stretch, the funnel of states, money by currency, and\n"
     "percentiles of the time in each state, for all and by store.",
     "jumun-replay stats jumun-data --plot year.svg\n"
     "jumun-replay stats jumun-data --json --stores 1000 | jq '.stores[].in_state.paid'",
     stats_options, 1, 1, replay_stats},
    {"backup", "SOURCE TARGET", "Copies all that is new in a node's logs into a backup",
     "Works beside the running node. The first run copies everything, each later one only what\n"
     "came since, so that TARGET becomes an archive that outlives the node's retention. A run\n"
     "that was stopped is gone on with. The running node is asked how far its log is settled, and\n"
     "all up to there is copied.",
     "jumun-replay backup jumun-data backup\njumun-replay verify backup",
     backup_options, 2, 2, replay_backup},
    {"restore", "BACKUP TARGET", "Makes a data directory of a backup, as it was at a moment",
     "All shards at that moment together: what one had seen, the other had sent; what was on its\n"
     "way is sent again by the engine. TARGET is a new directory that jumund starts from.",
     "jumun-replay restore backup jumun-data --to 2026-11-21T06:00:00",
     build_options, 2, 2, replay_build},
    {"rebuild", "SOURCE TARGET", "Makes a data directory from logs alone",
     "For a node whose stored state, vote or node.json is lost: the log is copied, and all else\n"
     "is made from it, each shard in a thread. Where a record is damaged, the sentence tells how\n"
     "to take what came before it.",
     "jumun-replay rebuild broken/jumun-data jumun-data --node-id 1",
     build_options, 2, 2, replay_build},
    {"what-if", "SOURCE", "Tries other rules on the causes of a log",
     "Runs every command and deadline of the log through the rules of another build and lists\n"
     "each order whose state, money or refusals would differ: first where, then how it ends. Exit\n"
     "1 when there are any. The other build's rules are its target jumun_rules.",
     "ninja -C build actors/libjumun_rules.so\n"
     "jumun-replay what-if jumun-data --rules build/actors/libjumun_rules.so",
     what_if_options, 1, 1, replay_what_if},
    {"play", "SOURCE", "Sends the commands of a log to another cluster",
     "For staging and load tests with the shape of production: the order of commands by key and\n"
     "the distances in time are kept, divided by the speed. A log holds only what was accepted.\n"
     "With --continue a play that was stopped or killed goes on: what comes once more has the\n"
     "same ids and keys, so nothing happens twice.",
     "jumun-replay play backup --speed 100x --into tcp://staging:7400\n"
     "jumun-replay play backup --speed max --continue place.json --into tcp://staging:7400",
     play_options, 1, 1, replay_play},
    {"help", "[COMMAND]", "Prints this help, or that of a command", NULL,
     "jumun-replay help diff", NULL, 0, 1, replay_help},
    {"completion", "SHELL", "Prints the completions of bash, zsh or fish", NULL,
     "source <(jumun-replay completion bash)", NULL, 1, 1, replay_completion},
    {NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL}};
