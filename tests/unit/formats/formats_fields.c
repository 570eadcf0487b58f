#include "tests/unit/formats/formats_fields.h"

#include <string.h>

#include "actors/cluster/cluster_event.h"
#include "actors/message_event.h"
#include "actors/order/order_layout.h"
#include "actors/store/store_layout.h"
#include "persistence/lmdb/internal.h"

/* What the compiler says of a field, so that no table can say it wrong. */
#define TYPE_OF(x)                                                                              \
    _Generic((x), uint8_t: "u8", uint16_t: "u16", uint32_t: "u32", uint64_t: "u64",             \
             int64_t: "i64", struct id128: "id", char *: "text", uint8_t *: "bytes",            \
             struct order_after: "order_after", struct order_held: "order_held",                \
             uint64_t *: "u64 list", struct actor: "actor")
#define F(field, meaning)                                                                       \
    {#field, offsetof(struct S, field), sizeof(((struct S *)0)->field),                         \
     TYPE_OF(((struct S *)0)->field), meaning}
#define SPARE F(spare, "0")
#define AFTER F(after, "what is due once the event is applied")

#define S record_header
static const struct format_field record_fields[] = {
    F(checksum, "XXH3-64 of all bytes of the record behind this field"),
    F(index, "of the record; the key says the same"),
    F(term, "of the leader that wrote it"),
    F(payload_bytes, "behind this header"),
    F(type, "1 events, 2 barrier, 3 configuration"),
    F(format, "1")};
#undef S
#define S entry_header
static const struct format_field entry_fields[] = {
    F(time_ms, "the leader's clock when the turn was decided, Unix ms"),
    F(shard, "whose log it is"),
    F(events_count, "events behind this header")};
#undef S
#define S event
static const struct format_field event_fields[] = {
    F(bytes, "of the whole event, with header, padding and trace; a multiple of 8"),
    F(kind, "see the table of kinds"),
    F(schema, "version of the kind's payload, from 1"),
    F(state_after, "the subject's state once applied"),
    F(flags, "1 republished, 2 the cause was held before, 4 a trace id is the last 16 bytes"),
    F(version, "the subject's version once applied: its previous one + 1"),
    F(cause_kind, "kind of the command that caused it; 90 = a deadline"),
    F(state_before, "the subject's state before; 0 = there was none"),
    SPARE,
    F(prev_index, "log index of the subject's previous event; 0 = this is the first"),
    F(subject, "the order's key, or the store's; zero for messages between shards"),
    F(cause, "id of the command; zero when a deadline or a message caused it")};
#undef S

#define S order_after
static const struct format_field after_fields[] = {
    F(step_deadline_ms, "payment, acceptance or auto-complete, by the state; 0 = none"),
    F(end_deadline_ms, "refund while something is owed, else retention; 0 = none"),
    F(refund_owed, "captured money that the order has no claim to")};
#undef S
#define S order_placed
static const struct format_field placed_fields[] = {
    AFTER, F(lines_total, "sum of quantity * unit price"), F(fees, ""), F(discounts, ""),
    F(total, "lines_total + fees - discounts"),
    F(payment_timeout_ms, "as asked for, or the default of that day"),
    F(acceptance_timeout_ms, "likewise"), F(auto_complete_ms, "likewise"),
    F(lines_bytes, "of all lines together"), F(lines_count, ""), F(attributes_bytes, ""),
    F(fulfilment, "1 platform delivery, 2 store delivery, 3 pickup, 4 parcel"),
    F(payment_timing, "1 prepaid, 2 on delivery"), F(store_bytes, ""), F(customer_bytes, ""),
    F(group_bytes, ""), F(external_ref_bytes, ""), F(currency, "three capital letters"), SPARE};
#undef S
#define S order_amended
static const struct format_field amended_fields[] = {
    AFTER, F(lines_total, "of the new lines"), F(fees, ""), F(discounts, ""), F(total, ""),
    F(lines_bytes, ""), F(lines_count, ""), SPARE};
#undef S
#define S order_payment_recorded
static const struct format_field payment_fields[] = {
    AFTER, F(amount, "of the part"), F(captured, "of the order, all parts"),
    F(part, "position of the part; the count of parts = a new one"),
    F(state, "1 authorised, 2 captured, 3 failed, 4 voided"), F(method_bytes, ""),
    F(reference_bytes, ""), SPARE};
#undef S
#define S order_accepted
static const struct format_field accepted_fields[] = {
    AFTER, F(ready_estimate_ms, "Unix ms; 0 = not told")};
#undef S
#define S order_moved
static const struct format_field moved_fields[] = {AFTER};
#undef S
#define S order_ended
static const struct format_field ended_fields[] = {
    AFTER, F(reason_bytes, ""),
    F(by, "1 customer, 2 store, 3 rider, 4 support, 5 system; 0 = not told"), SPARE};
#undef S
#define S order_rider_assigned
static const struct format_field rider_fields[] = {F(rider_bytes, ""), SPARE};
#undef S
#define S order_line_cut
static const struct format_field cut_fields[] = {
    F(line, "position, from 0"), F(quantity, "cancelled by this event, above 0")};
#undef S
#define S order_lines_cancelled
static const struct format_field lines_cancelled_fields[] = {
    AFTER, F(lines_total, "of what is left"), F(discounts, "after it"), F(total, "after it"),
    F(cuts_count, ""), F(reason_bytes, ""), F(by, "as in `order_ended`"), SPARE};
#undef S
#define S order_refunded
static const struct format_field refunded_fields[] = {
    AFTER, F(amount, "of this refund"), F(refunded, "of the order, all refunds"),
    F(reason_bytes, ""), F(by, "5 when the deadline caused it, else 0"), SPARE};
#undef S
#define S order_annotated
static const struct format_field annotated_fields[] = {F(note_bytes, ""), SPARE};
#undef S
#define S order_held
static const struct format_field held_fields[] = {
    F(id, "of the held command"), F(trace, "its trace id; zero = none"), F(amount, "of a pay"),
    F(expected_version, "checked when it is resolved; 0 = none"), F(cuts_count, "of a cancel"),
    F(reason_bytes, "of a cancel"), F(kind, "2 pay, 11 cancel"),
    F(state_or_by, "pay: state of the payment; cancel: by whom"), F(method_bytes, "of a pay"),
    F(reference_bytes, "of a pay"), SPARE};
#undef S
#define S order_command_held
static const struct format_field command_held_fields[] = {
    F(held_deadline_ms, "when the place must have come"), F(held, "")};
#undef S
#define S order_held_resolved
static const struct format_field resolved_fields[] = {
    F(code, "0, or the code with which it was refused"), SPARE};
#undef S
#define S order_held_expired
static const struct format_field held_expired_fields[] = {
    AFTER, F(captured, "money that held pays reported as captured"), F(parts_bytes, ""),
    F(reason_bytes, ""), F(parts_count, ""), SPARE};
#undef S

#define S store_switched
static const struct format_field switched_fields[] = {
    F(reason_bytes, "0 when resumed"), F(id_bytes, ""), SPARE};
#undef S
#define S message_event
static const struct format_field message_fields[] = {
    F(sequence, "gap-free per pair of shards, from 1; 0 = the shard's message to itself"),
    F(peer, "sent: the receiver; seen: the sender"), F(payload_bytes, "of the msgpack behind")};
#undef S

#define S shards_known
static const struct format_field known_fields[] = {
    F(version, "of the cluster document; its generation in the high 32 bits"),
    F(joined_ms, "begin of the newest run of epochs that have the shard; 0 = the first epoch"),
    F(stores_shards, "stores are spread over so many shards"),
    F(first_shards, "and were so before, as far as the shard knows; 0 = it is newer"),
    F(active, "bit n: shard n runs")};
#undef S

#define S cluster_changed
static const struct format_field changed_fields[] = {
    F(cluster_id, ""), F(node_last, "newest number given to a node"),
    F(stores_shards, "stores are spread over so many shards"),
    F(nodes_count, "records behind it; 0 = none changed"), F(epochs_count, "0 = unchanged"),
    F(shards_count, ""), F(replicas, "of each shard"),
    F(level, "what is written to logs; 0 = the first"),
    F(node_gone, "dropped from a full list; 0 = none"),
    F(generation, "how often the logs have outlived a cluster"), F(spare, "0")};
#undef S
#define S cluster_member
static const struct format_field member_fields[] = {
    F(node, ""), F(state, "1 active, 2 draining, 3 removed"), SPARE,
    F(peer, "address for nodes, zeros behind it"), F(client, "address for clients")};
#undef S
#define S cluster_epoch
static const struct format_field epoch_fields[] = {
    F(from_ms, "birth of its first key, Unix ms"), F(shards_count, ""), SPARE};
#undef S
#define S cluster_shard
static const struct format_field shard_fields[] = {
    F(shard, "65535 = the meta group"), F(preferred, "the node that shall lead"),
    F(incarnation_last, "newest one given to a server"), F(state, "1 active, 2 retired"),
    F(servers_count, ""), F(first_count, "0 = founded from data that was there"), SPARE,
    F(servers, "where it shall be: incarnation << 32, node; 0 behind the last"),
    F(first, "those that the group began with")};
#undef S

#define S actor
static const struct format_field actor_fields[] = {
    F(bytes, "of the whole block, this head included"),
    F(kind, "1 order, 2 store, 3 board note, 4 cluster, 5 message"),
    F(schema, "version of the kind's layout, 1"), F(state, "of an order or a store, see below"),
    F(flags, "1 open, 2 closed, 4 retired, 8 came from another shard"), F(key, "as in the events"),
    F(last_index, "log index of the newest applied event"),
    F(next_deadline_ms, "the earliest that is pending; 0 = none"),
    F(version, "grows by 1 per event"), SPARE};
#undef S
#define S order
static const struct format_field order_fields[] = {
    F(actor, ""), F(lines_total, "of what is not cancelled"), F(fees, ""), F(discounts, ""),
    F(total, "lines_total + fees - discounts"), F(captured, "sum of the captured parts"),
    F(refunded, "at most captured"), F(refund_owed, "at most captured - refunded"),
    F(placed_ms, "0 while awaited"), F(updated_ms, "of the newest event"),
    F(ready_estimate_ms, "0 = not told"),
    F(step_deadline_ms, "payment, acceptance or auto-complete, by the state; 0 = none"),
    F(end_deadline_ms, "refund while something is owed, else retention; 0 = none"),
    F(payment_timeout_ms, ""), F(acceptance_timeout_ms, ""), F(auto_complete_ms, ""),
    F(lines_bytes, ""), F(held_bytes, "the deadline included; 0 = nothing is held"),
    F(lines_count, ""), F(attributes_bytes, ""), F(parts_bytes, ""), F(end_reason_bytes, ""),
    F(commands_count, "command records"), F(notes_count, "their texts stand in the log alone"),
    F(fulfilment, "0 = was never placed"), F(payment_timing, ""), F(currency, ""),
    F(ended_by, "as in `order_ended`; 0 = has not ended, or not told"), F(parts_count, ""),
    F(held_count, ""), F(store_bytes, ""), F(customer_bytes, ""), F(group_bytes, ""),
    F(external_ref_bytes, ""), F(rider_bytes, ""), SPARE};
#undef S
#define S order_command_record
static const struct format_field command_record_fields[] = {
    F(id, "of a command that the order has acted on"), F(version, "of the answer"),
    F(kind, "of the command"), F(outcome, "0 done, 1 held, or why a held command was refused")};
#undef S
#define S store
static const struct format_field store_fields[] = {
    F(actor, ""), F(open_orders, "store only"), F(placed_orders, "store only"),
    F(store_version, "note only: the store's version that set it"), F(reason_bytes, "store only"),
    F(id_bytes, ""), F(commands_count, "store only; at most 32")};
#undef S
#define S store_command_record
static const struct format_field store_record_fields[] = {
    F(id, "of a command that the store has acted on"), F(version, "of the answer"),
    F(kind, "50 pause, 51 resume"), SPARE};
#undef S

#define S identity_row
static const struct format_field identity_fields[] = {
    F(magic, "`JUMUNDIR`"), F(format, "of the directory, 1"), F(shard, "whose directory it is")};
#undef S
#define S vote_row
static const struct format_field vote_fields[] = {
    F(checksum, "of the 16 bytes behind it"), F(term, "the newest that this node has seen"),
    F(voted_for, "id of a node; 0 = nobody")};
#undef S
#define S snapshot_header
static const struct format_field snapshot_fields[] = {
    F(checksum, "of all bytes behind it, the block's too"), F(bytes, "of the block"),
    F(format, "1"), F(kind, "as in the block's head"), SPARE};
#undef S
#define S timer_row
static const struct format_field timer_fields[] = {
    F(deadline_be, "Unix ms, big endian"), F(key, "of the order")};
#undef S
#define S marker_row
static const struct format_field marker_fields[] = {
    F(checksum, "of all bytes behind it, the configuration's too"),
    F(applied_index, "every snapshot reflects at least the records up to here"),
    F(applied_term, "the term of that record"),
    F(configuration_index, "of the record that holds the configuration; 0 = none"),
    F(configuration_bytes, "behind this row: as in a record of type 3"), SPARE};
#undef S

#define S export_row
static const struct format_field export_fields[] = {
    F(checksum, "of the 24 bytes behind it"), F(rows, "of all tables but `meta`"),
    F(digest, "of all these rows"), F(exported_ms, "Unix ms")};
#undef S
#define S gap_row
static const struct format_field gap_fields[] = {
    F(checksum, "of the 24 bytes behind it"), F(first, "index that is not stored"),
    F(last, "index that is not stored: the marker of the installed state"),
    F(installed_ms, "Unix ms")};
#undef S
#define S reached_row
static const struct format_field reached_fields[] = {
    F(checksum, "of the 24 bytes behind it"),
    F(transaction, "number of the transaction of `vote/` that wrote it"),
    F(index, "the log has reached it: first record of its newest segment, or end of a gap"),
    F(journal, "identity of the journal that is in use; 0 = none")};
#undef S

#define T(name, fields) {#name, sizeof(struct name), fields, sizeof fields / sizeof *fields}
const struct format_table format_tables[] = {
    T(record_header, record_fields), T(entry_header, entry_fields), T(event, event_fields),
    T(order_after, after_fields), T(order_placed, placed_fields),
    T(order_amended, amended_fields), T(order_payment_recorded, payment_fields),
    T(order_accepted, accepted_fields), T(order_moved, moved_fields),
    T(order_ended, ended_fields), T(order_rider_assigned, rider_fields),
    T(order_line_cut, cut_fields), T(order_lines_cancelled, lines_cancelled_fields),
    T(order_refunded, refunded_fields), T(order_annotated, annotated_fields),
    T(order_held, held_fields), T(order_command_held, command_held_fields),
    T(order_held_resolved, resolved_fields), T(order_held_expired, held_expired_fields),
    T(store_switched, switched_fields), T(message_event, message_fields),
    T(shards_known, known_fields), T(cluster_changed, changed_fields),
    T(cluster_member, member_fields),
    T(cluster_epoch, epoch_fields), T(cluster_shard, shard_fields), T(actor, actor_fields),
    T(order, order_fields), T(order_command_record, command_record_fields),
    T(store, store_fields), T(store_command_record, store_record_fields),
    T(identity_row, identity_fields), T(vote_row, vote_fields),
    T(snapshot_header, snapshot_fields), T(timer_row, timer_fields), T(marker_row, marker_fields),
    T(export_row, export_fields), T(gap_row, gap_fields),
    T(reached_row, reached_fields),
};
const unsigned format_tables_count = sizeof format_tables / sizeof *format_tables;

const struct format_table *format_table_find(const char *name) {
    for (unsigned i = 0; i < format_tables_count; i++)
        if (strcmp(format_tables[i].name, name) == 0) return &format_tables[i];
    return NULL;
}

void format_table_print(FILE *out, const struct format_table *table) {
    fputs("| offset | bytes | type | field | |\n| --- | --- | --- | --- | --- |\n", out);
    for (unsigned i = 0; i < table->count; i++) {
        const struct format_field *f = &table->fields[i];
        const char *quote = format_table_find(f->type) != NULL ? "`" : "";
        fprintf(out, "| %u | %u | %s%s%s | `%s` | %s |\n", f->offset, f->bytes, quote, f->type,
                quote, f->name, f->meaning);
    }
}
