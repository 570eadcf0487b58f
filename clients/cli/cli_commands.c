/* Every command of the program in one table: parser, help and completions are made from it. */
#include "clients/cli/cli.h"

#define FULFILMENTS "platform_delivery|store_delivery|pickup|parcel"

const struct args_option cli_global_options[] = {
    {"endpoint", 'e', "URL",
     "node to talk to; several, separated by commas, are tried in turn "
     "(JUMUN_ENDPOINT; default tcp://127.0.0.1:7400)",
     NULL},
    {"timeout", 't', "TIME", "of one call, retries included: 500ms, 5s, 1m (default 5s)", NULL},
    {"tls-ca", 0, "FILE", "who signs the nodes' certificates, for tls+tcp:// (JUMUN_TLS_CA)",
     "@file"},
    {"tls-cert", 0, "FILE", "own certificate, where nodes ask for one (JUMUN_TLS_CERT)", "@file"},
    {"tls-key", 0, "FILE", "key of that certificate (JUMUN_TLS_KEY)", "@file"},
    {"json", 'j', NULL, "print JSON", NULL},
    {"quiet", 'q', NULL, "print only what was asked for and errors", NULL},
    {"color", 0, "WHEN", "auto, always or never (NO_COLOR is respected)", "auto|always|never"},
    {"version", 'V', NULL, "print the version", NULL},
    {"help", 'h', NULL, "print help; after a command: that command's", NULL},
    {NULL}};

const struct args_option cli_write_options[] = {
    {"id", 0, "ID", "command id; the same id is acted on once, so a repeat is safe", NULL},
    {"expected-version", 0, "N", "refuse if the order has another version", NULL},
    {"trace", 0, "ID", "trace id, stands in the events", NULL},
    {NULL}};

static const struct args_option place_options[] = {
    {"store", 's', "STORE", "the store's id", NULL},
    {"line", 'l', "SKU:QTY:PRICE[:NAME]", "a line; repeat for more", NULL},
    {"currency", 'c', "CODE", "ISO 4217, such as KRW", "KRW|JPY|USD|EUR|GBP"},
    {"fulfilment", 'f', "KIND", FULFILMENTS " (default pickup)", FULFILMENTS},
    {"payment-timing", 'p', "WHEN", "prepaid (default) or on_delivery", "prepaid|on_delivery"},
    {"fees", 0, "AMOUNT", "added to the lines", NULL},
    {"discounts", 0, "AMOUNT", "taken off", NULL},
    {"total", 0, "AMOUNT", "lines + fees - discounts (default: computed)", NULL},
    {"customer", 0, "ID", "opaque customer id", NULL},
    {"group", 0, "ID", "joins the orders of one basket over several stores", NULL},
    {"external-ref", 'r', "TEXT", "your own order number", NULL},
    {"attributes", 'a', "JSON", "anything else, kept as it is", NULL},
    {"payment-timeout", 0, "TIME", "expires when unpaid after this (default 15m)", NULL},
    {"acceptance-timeout", 0, "TIME", "expires when not accepted after this (default 10m)", NULL},
    {"auto-complete", 0, "TIME", "delivered to completed after this", NULL},
    {"key", 'k', "KEY", "the order's key (default: a new one)", NULL},
    {"from-json", 0, "FILE", "one order as JSON, - for standard input", "@file"},
    {"csv", 0, "FILE", "many orders, one a row, heading first; may be gzip'd", "@file"},
    {"jsonl", 0, "FILE", "many orders, one JSON object a line; may be gzip'd", "@file"},
    {"dry-run", 'n', NULL, "read and check, send nothing", NULL},
    {NULL}};
static const struct args_option pay_options[] = {
    {"state", 's', "STATE", "authorised, captured (default) or failed",
     "authorised|captured|failed"},
    {"method", 'm', "TEXT", "card, voucher, ... (default card)", "card|voucher|cash|transfer"},
    {"reference", 'r', "TEXT", "needed: names the payment; later results repeat it", NULL},
    {NULL}};
static const struct args_option accept_options[] = {{"minutes", 'm', "N", "preparation time", NULL},
                                                    {NULL}};
static const struct args_option reason_options[] = {
    {"reason", 'r', "TEXT", "why, for people", NULL}, {NULL}};
static const struct args_option cancel_options[] = {
    {"by", 'b', "WHO", "customer (default), store, rider, support or system",
     "customer|store|rider|support|system"},
    {"reason", 'r', "TEXT", "why, for people", NULL},
    {"line", 'l', "N:QTY", "only QTY of line N (lines count from 0); repeat for more", NULL},
    {NULL}};
static const struct args_option amend_options[] = {
    {"line", 'l', "SKU:QTY:PRICE[:NAME]", "a line; all lines are replaced", NULL},
    {"fees", 0, "AMOUNT", "added to the lines", NULL},
    {"discounts", 0, "AMOUNT", "taken off", NULL},
    {"total", 0, "AMOUNT", "lines + fees - discounts (default: computed)", NULL},
    {NULL}};
static const struct args_option history_options[] = {
    {"limit", 'n', "N", "only the newest N events", NULL}, {NULL}};
static const struct args_option status_options[] = {
    {"interval", 'i', "TIME", "measure rates over this long (default 1s, 0 = since the start)",
     NULL},
    {NULL}};
static const struct args_option top_options[] = {
    {"interval", 'i', "TIME", "between two looks (default 1s)", NULL},
    {"count", 'n', "N", "end after N looks", NULL},
    {NULL}};
#define STATES                                                                                     \
    "placed|paid|accepted|ready|picked_up|delivered|completed|rejected|cancelled|expired"
#define REPLICA_OPTION                                                                             \
    {"replica", 'R', "URL", "replica to ask; several, separated by commas "                        \
     "(JUMUN_REPLICA; default tcp://127.0.0.1:7500)", NULL}
#define DEMAND_OPTIONS                                                                             \
    REPLICA_OPTION,                                                                                \
    {"at-least", 0, "TOKENS", "reflect these: SHARD:INDEX, separated by commas", NULL},            \
    {"max-age", 0, "TIME", "reflect a state no older than this", NULL},                            \
    {"strict", 0, NULL, "no answer rather than one that reflects less", NULL}
static const struct args_option orders_options[] = {
    {"store", 's', "STORE", "open orders of a store, by state, oldest first", NULL},
    {"customer", 'c', "CUSTOMER", "orders of a customer, newest first", NULL},
    {"state", 0, "STATE", "in this state; with --store it may repeat", STATES},
    {"ref", 'r', "TEXT", "orders with this number of your own", NULL},
    {"key", 'k', "KEY", "these orders; repeat for more", NULL},
    {"from", 0, "TIME", "with --state: placed at this time or later: 2026-11-21T06:00:00Z, "
     "2026-11-21, Unix ms, or 2h (so long ago)", NULL},
    {"to", 0, "TIME", "with --state: placed before", NULL},
    {"limit", 'n', "N", "orders at most (default 100; 0 = all)", NULL},
    {"cursor", 0, "CURSOR", "go on where an earlier answer to the same question ended", NULL},
    {"fields", 'F', "NAMES", "only these fields, separated by commas", NULL},
    DEMAND_OPTIONS, {NULL}};
static const struct args_option stats_options[] = {
    {"by", 'b', "BUCKET", "minute (default) or day, of UTC", "minute|day"},
    {"last", 0, "TIME", "so far back (default 1h, by day 30d)", NULL},
    {"store", 's', "STORE", "of this store (default: all together)", NULL},
    {"state", 0, "STATE", "that came into this state; repeat for more", STATES},
    DEMAND_OPTIONS, {NULL}};
static const struct args_option lag_options[] = {
    REPLICA_OPTION,
    {"max-age", 0, "TIME", "end with status 1 when a shard is older than this", NULL},
    {NULL}};
static const struct args_option one_replica_options[] = {
    {"replica", 'R', "URL", "replica, one (JUMUN_REPLICA; default tcp://127.0.0.1:7500)", NULL},
    {NULL}};
static const struct args_option replica_status_options[] = {
    REPLICA_OPTION,
    {"interval", 'i', "TIME", "measure rates over this long (default 1s, 0 = since the start)",
     NULL},
    {NULL}};
static const struct args_option rebuild_options[] = {
    {"replica", 'R', "URL", "replica, one (JUMUN_REPLICA; default tcp://127.0.0.1:7500)", NULL},
    {"no-wait", 0, NULL, "begin it, and do not wait for its end", NULL},
    {NULL}};
static const struct args_option watch_options[] = {
    REPLICA_OPTION,
    {"since", 0, "TOKENS", "go on from there: SHARD:INDEX of every shard, separated by commas",
     NULL},
    {"tokens", 0, "FILE", "keep the tokens here, and go on from there; a file for each command",
     "@file"},
    {"count", 'n', "N", "end after N changes; with --tokens, once all of the last one's log entry "
     "are told", NULL},
    {"fields", 'F', "NAMES", "only these fields, separated by commas", NULL},
    {NULL}};
static const struct args_option import_options[] = {
    {"full", 0, NULL, "all orders, as they are at one moment", NULL},
    {"since", 0, "WHEN", "orders that changed since: 10m (so long ago), 2026-11-21T06:00:00Z, "
     "SHARD:INDEX of every shard (0:17,1:4), or @FILE", NULL},
    {"format", 0, "FORM", "jsonl (default), csv or msgpack", "jsonl|csv|msgpack"},
    {"output", 'o', "FILE", "write here (default: standard output)", "@file"},
    {"fields", 'F', "NAMES", "only these fields, separated by commas", NULL},
    {"append", 0, NULL, "with --since: write behind what is in the output, whatever it is", NULL},
    {"restart", 0, NULL, "begin anew: what was stopped is given up, the output is emptied", NULL},
    {"no-heading", 0, NULL, "CSV: without the line of names", NULL},
    {"rate", 0, "N", "orders a second at most", NULL},
    {"tokens", 0, "FILE", "keep here how far it got, and go on from there when it was stopped",
     "@file"},
    REPLICA_OPTION, {NULL}};
static const struct args_option encode_options[] = {
    {"output", 'o', "FILE", "write here (default: standard output)", "@file"}, {NULL}};
static const struct args_option key_new_options[] = {{"count", 'n', "N", "print N keys", NULL},
                                                     {NULL}};

#define ONE_KEY_WRITE(name, summary, details, examples, options, run)                              \
    { name, "KEY", summary, details, examples, options, 1, 1, true, run }

static const struct args_option form_options[] = {
    {"node", 'n', "URL", "a node that waits, as clients will reach it; three at least", NULL},
    {"shards", 's', "N", "default: two per node; with orders: as many as there are", NULL},
    {"replicas", 'r', "N", "of each shard: 3 (default), 5 or 7", "3|5|7"},
    {"wait", 'w', "TIME", "how long to wait until all is in place (default 10m)", NULL},
    {"no-wait", 0, NULL, "return once it is decided", NULL},
    {NULL}};
static const struct args_option wait_options[] = {
    {"wait", 'w', "TIME", "how long to wait until all is in place (default 10m)", NULL},
    {"no-wait", 0, NULL, "return once it is decided", NULL},
    {NULL}};
static const struct args_option transfer_options[] = {
    {"wait", 'w', "TIME", "how long to wait until the node leads (default 1m)", NULL},
    {"no-wait", 0, NULL, "return once it is decided", NULL},
    {NULL}};
static const struct args_option drain_options[] = {
    {"force", 0, NULL, "also if no other node answers that could lead instead", NULL},
    {"wait", 'w', "TIME", "how long to wait until all is in place (default 10m)", NULL},
    {"no-wait", 0, NULL, "return once it is decided", NULL},
    {NULL}};
static const struct args_option grow_options[] = {
    {"shards", 's', "N", "over how many shards new orders are spread", NULL},
    {"in", 'i', "TIME", "from when: 70 s from now at least (default 5m)", NULL},
    {"from-ms", 0, "MS", "the same as a moment, in Unix milliseconds", NULL},
    {"force", 0, NULL, "also if a node has a new shard's port in use", NULL},
    {"wait", 'w', "TIME", "how long to wait until all is in place (default 10m)", NULL},
    {"no-wait", 0, NULL, "return once it is decided", NULL},
    {NULL}};
static const struct args_option retire_options[] = {
    {"no-wait", 0, NULL, "return once it is decided, as it does anyway", NULL}, {NULL}};
static const struct args_option recover_options[] = {
    {"data", 'd', "DIR", "the data directory of the node that is left", "@file"},
    {"force", 0, NULL, "do it; without this only what would be lost is told", NULL},
    {"program", 0, "PATH", "the jumund to run (default: the one beside this program)", "@file"},
    {NULL}};

static const struct args_option backup_options[] = {
    {"base", 0, NULL, "copy the stored state too: restores then need no older log", NULL},
    {"node", 0, "URL", "the node that runs on DATA (default: the one that DATA tells)", NULL},
    {NULL}};

const struct cli_command cli_commands[] = {
    {"place", "", "place an order, or all orders of a file",
     "Amounts are whole numbers of minor units: 9500 is 9,500 KRW, but 95.00 GBP. A file goes on\n"
     "after refusals and reports them by line (the first 20) and by kind; rows that cannot be\n"
     "read end in status 4.\n"
     "With --quiet it prints the keys of the orders placed, in the order of the rows.\n"
     "JSON: {\"store\", \"currency\", \"lines\": [{\"sku\", \"quantity\", \"unit_price\", "
     "\"name\"?}],\n"
     "\"fulfilment\"?, \"payment_timing\"?, \"fees\"?, \"discounts\"?, \"total\"?, \"customer\"?, "
     "\"group\"?,\n"
     "\"external_ref\"?, \"attributes\"?, \"key\"?, \"payment_timeout_ms\"?, "
     "\"acceptance_timeout_ms\"?,\n"
     "\"auto_complete_ms\"?}. CSV: the same names in the heading; lines = "
     "sku:quantity:price[:name]\n"
     "joined by ';'.",
     "jumun place --store s1 --currency KRW --line bibimbap:1:9500 --line cola:2:1500\n"
     "jumun place --from-json order.json\n"
     "echo '{\"store\":\"s1\",\"currency\":\"KRW\",\"lines\":[{\"sku\":\"a\",\"quantity\":1,"
     "\"unit_price\":9500}]}' | jumun place --from-json -\n"
     "jumun place --csv orders.csv.gz --dry-run",
     place_options, 0, 0, true, cli_place},
    {"pay", "KEY AMOUNT", "record the result of a payment",
     "AMOUNT is in minor units. One reference names one payment: authorised first, captured later\n"
     "is one payment with two results. A key that is not placed yet is no fault: the payment is\n"
     "held until the place comes, 10 minutes at most (then captured money is owed back).",
     "jumun pay $KEY 12500 --reference pg-1\n"
     "jumun pay $KEY 12500 --reference pg-1 --state authorised",
     pay_options, 2, 2, true, cli_pay},
    ONE_KEY_WRITE("accept", "the store accepts", NULL, "jumun accept $KEY --minutes 20",
                  accept_options, cli_accept),
    ONE_KEY_WRITE("reject", "the store rejects", NULL, "jumun reject $KEY --reason 'sold out'",
                  reason_options, cli_reject),
    ONE_KEY_WRITE("ready", "the food is ready, the parcel is packed", NULL, "jumun ready $KEY",
                  NULL, cli_plain_step),
    {"assign-rider", "KEY RIDER", "name the rider", NULL, "jumun assign-rider $KEY rider-7", NULL,
     2, 2, true, cli_assign_rider},
    ONE_KEY_WRITE("unassign-rider", "take the rider off", NULL, "jumun unassign-rider $KEY", NULL,
                  cli_plain_step),
    ONE_KEY_WRITE("pick-up", "picked up by rider, customer or carrier", NULL, "jumun pick-up $KEY",
                  NULL, cli_plain_step),
    ONE_KEY_WRITE("deliver", "delivered", NULL, "jumun deliver $KEY", NULL, cli_plain_step),
    ONE_KEY_WRITE("complete", "completed: nothing more will happen", NULL, "jumun complete $KEY",
                  NULL, cli_plain_step),
    ONE_KEY_WRITE("cancel", "cancel the order or a part of it",
                  "Without --line the whole order is cancelled. Money that was captured for what\n"
                  "is cancelled is owed back.",
                  "jumun cancel $KEY --by customer --reason 'changed my mind'\n"
                  "jumun cancel $KEY --by store --line 0:1 --line 2:3",
                  cancel_options, cli_cancel),
    {"refund", "KEY [AMOUNT|all]", "give captured money back",
     "AMOUNT is in minor units. Without it what is owed is given back: captured, less what was\n"
     "refunded and what the order costs now; nothing when it changes meanwhile. \"all\" gives\n"
     "back all that was captured and not refunded, also what the order costs still.",
     "jumun refund $KEY 3000 --reason 'cold soup'\njumun refund $KEY\njumun refund $KEY all",
     reason_options, 1, 2, true, cli_refund},
    ONE_KEY_WRITE("amend", "replace the lines before acceptance", NULL,
                  "jumun amend $KEY --line bibimbap:2:9500 --fees 3000", amend_options, cli_amend),
    {"annotate", "KEY NOTE", "add a note", NULL, "jumun annotate $KEY 'leave at the door'", NULL, 2,
     2, true, cli_annotate},
    {"get", "KEY", "show an order", NULL, "jumun get $KEY\njumun --json get $KEY | jq .state", NULL,
     1, 1, false, cli_get},
    {"history", "KEY", "show what happened to an order", "Times are local.",
     "jumun history $KEY\njumun history $KEY --limit 5 --json", history_options, 1, 1, false,
     cli_history},
    {"store pause", "STORE", "take no new orders; placed ones go on",
     "A store that no order has named yet is paused for when its first one comes; that is told on\n"
     "stderr.",
     "jumun store pause s1 --reason 'kitchen closed'", reason_options, 1, 1, true, cli_store_pause},
    {"store resume", "STORE", "take orders again", NULL, "jumun store resume s1", NULL, 1, 1, true,
     cli_store_resume},
    {"store get", "STORE", "show a store", NULL, "jumun store get s1", NULL, 1, 1, false,
     cli_store_get},
    {"cluster status", "", "show nodes, shards, leaders and what moves",
     "Asks every node, so it also works while most of them are down. What answers at a member's\n"
     "address is told as it is: waits (an empty node: the disk is lost), stranger (a node alone,\n"
     "or of another cluster), disk full, does not answer. Status 1 when one is not what the\n"
     "document says, or a group has no majority or no leader; a sentence at the end says which.",
     "jumun cluster status\njumun cluster status --json | jq '.shards[].leader'", NULL, 0, 0, false,
     cli_cluster_status,
     "something is not as the cluster shall be: a sentence at the end says what"},
    {"cluster form", "", "make a cluster of nodes that wait",
     "Each node is started with jumund --cluster-wait. All on empty directories; or one on the\n"
     "directory of a node that was alone, stopped in order before: its orders are copied to the\n"
     "others, and it does not serve meanwhile. Broken off, the same command goes on.",
     "jumun cluster form --node tcp://10.0.0.1:7400 --node tcp://10.0.0.2:7400 \\\n"
     "                   --node tcp://10.0.0.3:7400 --shards 6",
     form_options, 0, 0, false, cli_cluster_form},
    {"cluster join", "URL", "take a waiting node in, without replicas yet", NULL,
     "jumun cluster join tcp://10.0.0.4:7400", NULL, 1, 1, false, cli_cluster_join},
    {"cluster add", "URL", "take a waiting node in and give it its share of the replicas", NULL,
     "jumun cluster add tcp://10.0.0.4:7400", wait_options, 1, 1, false, cli_cluster_add},
    {"cluster remove", "NODE", "move all replicas off a node and forget it",
     "Stop it once this has returned. Its number never returns.", "jumun cluster remove 2",
     wait_options, 1, 1, false, cli_cluster_remove},
    {"cluster replace", "NODE URL", "give the place of a lost node to a waiting one",
     "For a node that will not come back, or whose disk is lost.",
     "jumun cluster replace 2 tcp://10.0.0.4:7400", wait_options, 2, 2, false,
     cli_cluster_replace},
    {"cluster readdress", "NODE PEERS CLIENTS", "tell where a node is to be found now",
     "PEERS is its address for other nodes, CLIENTS the general endpoint.",
     "jumun cluster readdress 2 tcp://10.0.0.9:7300 tcp://10.0.0.9:7400", NULL, 3, 3, false,
     cli_cluster_readdress},
    {"cluster move", "SHARD FROM TO", "move a replica from one node to another", NULL,
     "jumun cluster move 3 1 4\njumun cluster move meta 1 4", wait_options, 3, 3, false,
     cli_cluster_move},
    {"cluster transfer", "SHARD NODE", "let another node lead a shard", NULL,
     "jumun cluster transfer 3 2", transfer_options, 2, 2, false, cli_cluster_transfer},
    {"cluster balance", "", "spread replicas and leads evenly", NULL, "jumun cluster balance",
     wait_options, 0, 0, false, cli_cluster_balance},
    {"cluster drain", "NODE", "let a node lead nothing, before maintenance",
     "It keeps its replicas. When this returns, stopping it costs clients nothing. Nodes that do\n"
     "not answer are not waited for. Refused when nobody answers that could lead instead.",
     "jumun cluster drain 2 && systemctl restart jumund && jumun cluster undrain 2", drain_options,
     1, 1, false, cli_cluster_drain},
    {"cluster undrain", "NODE", "end a drain", NULL, "jumun cluster undrain 2", wait_options, 1, 1,
     false, cli_cluster_undrain},
    {"cluster grow", "", "spread new orders over another number of shards",
     "Orders that are there stay where they are. Each node listens for each shard, on the port of\n"
     "its general endpoint + 1 + the shard's number: refused when another program has one of\n"
     "those.",
     "jumun cluster grow --shards 12 --in 10m",
     grow_options, 0, 0, false, cli_cluster_grow},
    {"cluster cancel-grow", "", "call the newest growth off, until 70 s before it begins",
     "Shards that were made for it run on, without orders: jumun cluster retire stops one.",
     "jumun cluster cancel-grow", wait_options, 0, 0, false, cli_cluster_cancel_grow},
    {"cluster raise-level", "[LEVEL]", "write what came with a newer version, once all nodes run "
     "it", NULL, "jumun cluster raise-level", NULL, 0, 1, false, cli_cluster_raise_level},
    {"cluster retire", "SHARD", "stop a shard that no order can belong to any more", NULL,
     "jumun cluster retire 5", retire_options, 1, 1, false, cli_cluster_retire},
    {"cluster recover", "", "go on alone with what one node has: orders may be lost",
     "Only when most nodes of a cluster are lost for good. Works on the directory of a node that\n"
     "is stopped, and makes it a node alone again. Once it was ready as such and was stopped in\n"
     "order, jumun cluster form makes a cluster of it.\n"
     "Whatever was acknowledged and had not reached this node is lost. See docs/cluster.md.",
     "jumun cluster recover --data /var/lib/jumun\n"
     "jumun cluster recover --data /var/lib/jumun --json | jq -c '.shards[] | [.term, .index]'\n"
     "jumun cluster recover --data /var/lib/jumun --force",
     recover_options, 0, 0, false, cli_cluster_recover,
     "the node runs, or the directory is that of no cluster's node"},
    {"status", "", "show how the node is", NULL,
     "jumun status\njumun status --interval 10s\n"
     "jumun status --json",
     status_options, 0, 0, false, cli_status},
    {"top", "", "watch the node live",
     "q or Ctrl-C quits. Not on a terminal: a line per look. Of several addresses it stays with\n"
     "the node that answers first, which is named, and goes to another one when that is gone.",
     "jumun top\njumun top --interval 5s --count 12 | tee load.txt", top_options, 0, 0, false,
     cli_top},
    {"orders", "", "list orders, from a replica",
     "Of a store, a customer, in a state, by your own number, or by key. What the answer lacks or\n"
     "that it is 2 s old or older is told on stderr, and its age in the JSON. When there are\n"
     "more orders, the place to go on from is told too (\"cursor\"). Keys without an order are\n"
     "named (\"not_found\"); then the status is 1.",
     "jumun orders --store s1\njumun orders --store s1 --state ready --fields key,total\n"
     "jumun orders --customer c7 --limit 10 --json | jq -r .cursor\n"
     "jumun orders --customer c7 --limit 10 --cursor $CURSOR\njumun orders --state paid --from 1h",
     orders_options, 0, 0, false, cli_orders,
     "some --key has no order (the others are shown), or the replica refused"},
    {"stats", "", "count orders and money, from a replica",
     "Orders that came into each state in each minute or day, and their money. Into placed each\n"
     "order comes once, also one with nothing to pay, which is paid from the beginning. Captured\n"
     "and refunded: the money that moved in that time, under the state that its order was in then.",
     "jumun stats --last 15m\njumun stats --by day --store s1 --state completed",
     stats_options, 0, 0, false, cli_stats},
    {"lag", "", "show how far replicas are behind",
     "A replica that does not answer, or has reached no node yet, is a line of its own: then the\n"
     "status is 3 or 1.",
     "jumun lag --replica tcp://a:7500,tcp://b:7500\njumun lag --max-age 1s || alert",
     lag_options, 0, 0, false, cli_lag,
     "a shard is older than --max-age, or a replica has reached no node yet"},
    {"replica status", "", "show how replicas are",
     "Of each: the nodes that it follows and where it has got to with every shard, its views,\n"
     "load, latency, memory, disk, watchers, imports. One that does not answer, or has reached no\n"
     "node yet, is told on stderr: then the status is 3 or 1. With --json all that it says, once.",
     "jumun replica status\njumun replica status --replica tcp://a:7500,tcp://b:7500\n"
     "jumun replica status --json | jq '.[].status.follower.failures'",
     replica_status_options, 0, 0, false, cli_replica_status,
     "a replica has reached no node yet"},
    {"replica views", "", "show the views of a replica, and how a rebuild goes",
     "Rows and bytes on disk of each; the generation grows when a view was built anew.",
     "jumun replica views --replica tcp://a:7500", one_replica_options, 0, 0, false,
     cli_replica_views},
    {"replica rebuild", "VIEW", "build a view of a replica anew, while the old one answers",
     "VIEW: by_ref, by_customer, board, by_state or changes. It is made from the orders that the\n"
     "replica has itself (no node is needed) beside the one that answers, and takes its place at\n"
     "once when it is done. One that is being rebuilt already is not begun again. When the\n"
     "replica ends meanwhile, the status is 3, and it is to be asked for again.",
     "jumun replica rebuild board --replica tcp://a:7500\n"
     "jumun replica rebuild board --no-wait && jumun replica views",
     rebuild_options, 1, 1, false, cli_replica_rebuild, NULL,
     "by_ref|by_customer|board|by_state|changes"},
    {"watch", "TOPIC", "see changes as they happen, from a replica",
     "TOPIC: store/ID, customer/ID or order/KEY. Ctrl-C ends. Nothing is missed while it runs;\n"
     "with --tokens nothing is missed while it does not, either.",
     "jumun watch store/s1\njumun watch order/$KEY --count 1\n"
     "jumun watch store/s1 --json --tokens s1.tokens | while read order; do ...; done",
     watch_options, 1, 1, false, cli_watch},
    {"import", "", "copy orders out of a replica, for other systems",
     "--full copies all orders as they are at one moment; --since those that changed since a time "
     "or\ntokens, each once, as they are now. With --tokens and --output a full copy that was "
     "stopped goes\non as it was begun, while its replica keeps the snapshot (4 of them, for 5 "
     "minutes; 30 s when\nanother one needs the place); a finished one is what the next --since "
     "@FILE begins at.\n"
     "--full replaces what is in the output. --since writes behind what the file of --tokens tells "
     "of,\nand refuses another file that is not empty (--append, --restart), and another output "
     "than the\nlast time's (--append). A file of tokens is for copies or for one watch, not for "
     "both.\n"
     "--since needs a node as well (--endpoint): its log tells which orders changed; when one is "
     "gone,\nanother one of its cluster is asked. When a node or a replica is waited for, that is "
     "told on\nstderr. Nodes, replicas and tokens of two clusters are refused.",
     "jumun import --full --output orders.jsonl --tokens orders.tokens\n"
     "jumun import --since @orders.tokens --tokens orders.tokens --endpoint tcp://node:7400 "
     "--output changes.jsonl\n"
     "jumun import --since 10m --format csv --fields key,state,total",
     import_options, 0, 0, false, cli_import},
    {"ping", "", "see whether the node answers", NULL, "jumun ping --timeout 500ms", NULL, 0, 0,
     false, cli_ping},
    {"key new", "", "make order keys or command ids", NULL, "KEY=$(jumun key new)", key_new_options,
     0, 0, false, cli_key_new},
    {"key parse", "KEY", "show what a key says", NULL, "jumun key parse 01JD6QJ4E9GHXN3W6YV2T0RZ8K",
     NULL, 1, 1, false, cli_key_parse},
    {"encode", "COMMAND ...", "write a command's request message instead of sending it",
     "For any nng client; the answer can be read with jumun decode.",
     "jumun encode --output ping.bin ping\n"
     "nngcat --req --dial tcp://127.0.0.1:7400 --file ping.bin --raw | jumun decode",
     encode_options, 1, 0, false, cli_encode},
    {"decode", "[FILE]", "show a msgpack message as JSON", NULL, "jumun decode reply.bin", NULL, 0,
     1, false, cli_decode, NULL,
     "@file"},
    {"backup", "DATA TARGET", "copy what is new in a node's logs into a backup (jumun-replay)",
     "Reads the node's data directory on this machine, beside the running node. The first run\n"
     "copies everything, each later one what came since.",
     "jumun backup jumun-data backup\njumun-replay restore backup new-data --to 06:30",
     backup_options, 2, 2, false, cli_backup, NULL,
     "@file"},
    {"completion", "SHELL", "print the completions of bash, zsh or fish", NULL,
     "source <(jumun completion bash)\n"
     "jumun completion fish > ~/.config/fish/completions/jumun.fish",
     NULL, 1, 1, false, cli_completion, NULL,
     "bash|zsh|fish"},
    {"version", "", "print the version", NULL, NULL, NULL, 0, 0, false, cli_version},
    {"help", "[COMMAND]", "print help", NULL, "jumun help place", NULL, 0, 2, false, cli_help},
    {NULL}};
