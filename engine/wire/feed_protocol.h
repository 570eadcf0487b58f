/* The feed: the committed entries of a node's shards, for whoever follows them (replicas, relays,
 * exports). msgpack over nng REQ/REP on an endpoint of its own, which SHARD_MAP names ("feed").
 * docs/replicas.md is the manual by example.
 *
 * A position is (shard, index): the same on every node that has the shard, for ever. A consumer
 * that knows its position asks any such node, and fails over without a word to anybody. Only
 * committed entries are ever told.
 *
 * request = [version, kind, ...]
 *   HELLO           []
 *   PULL            [shard, from, wait_ms?, bytes_max?, form?, kinds?]
 *                     from       index of the first entry wanted; 1 = the beginning of the log
 *                     wait_ms    how long to wait for an entry when there is none yet (a long poll;
 *                                at most FEED_WAIT_MS_MAX, 0 = not at all)
 *                     bytes_max  of the payload, at most FEED_BATCH_BYTES_MAX (the default); one
 *                                entry always fits
 *                     form       enum feed_form, default FEED_RECORDS
 *                     kinds      [event kind, ...]: only these events; nil = all. Not for RECORDS
 *   LOCATE          [shard, time_ms]: the first entry that was decided at or after that time, of
 *                   those from which on the log is whole: an older one may be gone (a PULL of the
 *                   index in front of it tells)
 *   SNAPSHOT_BEGIN  [shard]: makes a copy of the shard's stored orders; a replica takes nil as the
 *                     shard and copies all its views
 *   SNAPSHOT_CHUNK  [id, offset, bytes_max]
 *   SNAPSHOT_END    [id]: the copy may go. By itself it goes 5 minutes after it was last asked for,
 *                     or 30 s after that when a new one needs its place: 4 are kept
 *
 * reply = [version, 0, ...]
 *   HELLO           [{"cluster_id": str, "node_id": uint, "now_ms", "shards_count": uint,
 *                     "notify": str (endpoint of the notifications, "" = none),
 *                     "shards": [[shard, first, commit], ...]}]    first: the oldest entry from
 *                     which on the log is whole. May have "active": bin, bit n % 8 of byte n / 8 =
 *                     shard n exists; one that exists nowhere was retired: nothing comes any more
 *   PULL            [shard, from, next, commit, now_ms, payload, times, cluster_id]
 *                     next       ask for this index next (behind all that was sent or filtered)
 *                     commit     newest entry that may be read: next == commit + 1 = up to date;
 *                                with no entries, newest that is known to be committed: one that is
 *                                not behind `next` is not on this node's disk yet (ask another one)
 *                     now_ms     the node's clock
 *                     times      [last, age_ms, last, age_ms, ...]: entries up to `last` that stand
 *                                behind the one before became committed at this node age_ms
 *                                before now_ms; nil = it is not known (any more). At most
 *                                FEED_MOMENTS_MAX pairs; entries that none has: not known. It may
 *                                be missing
 *                     cluster_id whose entries these are, as in HELLO; it may be missing here and
 *                                below. What is of another cluster than before (a connection that
 *                                was made anew can end at another node) is not to be taken
 *   LOCATE          [shard, index, commit, cluster_id]    commit + 1 = nothing that young yet
 *   SNAPSHOT_BEGIN  [id, bytes, [[shard, index], ...], cluster_id]    what the copy reflects
 *   SNAPSHOT_CHUNK  [offset, bin, xxh3-64 of the bin]     empty at the end
 *   SNAPSHOT_END    []
 * reply = [version, code, "sentence", detail, cluster_id?]    refused; enum result_code
 *   IMPORT_REQUIRED: retention has passed `from`, or a gap lies there; detail = the index from
 *   which the log goes on, up to the next gap if there are several. SHARD_NOT_HERE: ask another
 *   node. OVERLOADED: detail = ms.
 *
 * payloads
 *   RECORDS  bin: records one behind the other as they lie in the log (docs/formats.md), each
 *            padded with zeros to 8 bytes; gap-free, barriers and configurations included
 *   EVENTS   [[index, time_ms, bin], ...]: the event as it lies in the log
 *   MARKS    [[index, time_ms, kind, subject (bin 16), version, state], ...]: zero payload
 *   MAPS     [{...}, ...]: the event as a history shows it (docs/protocol.md)
 * Events of one index come in the order in which they happened.
 *
 * Notifications (nng PUB/SUB): a message is two values one behind the other, a str and an array:
 *   "order/<key as 26 characters>" | "store/<id>" | "customer/<id>"
 *   [kind (of event), version, shard, index, key (bin 16), state]
 * A subscription to the encoded str gets exactly one topic. They wake, and promise nothing: a slow
 * subscriber loses some. Whoever must miss nothing asks with its last token (docs/replicas.md). A
 * node tells store and customer for order_placed only, as only that event names them; a replica
 * tells them always, and once it can answer from what it tells. */
/* Republished events go the other way: `jumun-replay republish --into` asks a subscriber, which
 * answers (nng REP). docs/protocol.md shows it by example.
 *   REPUBLISHED     [version, kind, stream (bin 16), number, [{...}, ...]]: messages of one run
 *                     have one stream and the numbers 1, 2, 3, ...; no events = the run is over
 * reply = [version, 0, number], once the events will not be lost any more
 *       | [version, code, "sentence", retry_after_ms]: codes of 2 to 49 are tried again
 * A message that is not answered comes again, so one can come twice. */
#ifndef JUMUN_WIRE_FEED_PROTOCOL_H
#define JUMUN_WIRE_FEED_PROTOCOL_H

enum { FEED_VERSION = 1 };

enum feed_kind {
    FEED_HELLO = 300,
    FEED_PULL = 301,
    FEED_LOCATE = 302,
    FEED_SNAPSHOT_BEGIN = 303,
    FEED_SNAPSHOT_CHUNK = 304,
    FEED_SNAPSHOT_END = 305,
    FEED_REPUBLISHED = 310
};

enum feed_form { FEED_RECORDS = 0, FEED_EVENTS = 1, FEED_MARKS = 2, FEED_MAPS = 3 };

enum {
    FEED_TOPIC_BYTES_MAX = 9 + 64  /* "customer/" and an id */
};

#endif
