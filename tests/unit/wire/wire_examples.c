#include "tests/unit/wire/wire_examples.h"

#include "actors/command.h"
#include "engine/wire/protocol.h"

const struct id128 wire_example_key = {
    {0x01, 0x9b, 0x76, 0xda, 0xa8, 0x00, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
const struct id128 wire_example_command_id = {{0xc0, 0xff, 0xee, [15] = 1}};
static const struct id128 wire_example_trace = {{0x7a, 0xce, [15] = 1}};

void wire_example_open(struct msgpack_writer *w, unsigned commands) {
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_nil(w);
    msgpack_write_array(w, commands);
}

void wire_example_command(struct msgpack_writer *w, unsigned fields, unsigned kind,
                          const char *store) {
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, kind);
    if (store != NULL) msgpack_write_text(w, store);
    else msgpack_write_bin(w, wire_example_key.bytes, 16);
    if (fields > 2) msgpack_write_bin(w, wire_example_command_id.bytes, 16);
    if (fields > 3) msgpack_write_nil(w);
}

static void example_alone(struct msgpack_writer *w, unsigned fields, unsigned kind,
                          const char *store) {
    wire_example_open(w, 1);
    wire_example_command(w, fields, kind, store);
}

static void example_line(struct msgpack_writer *w, const char *sku, int64_t quantity,
                         int64_t unit_price, const char *name) {
    msgpack_write_array(w, name != NULL ? 4 : 3);
    msgpack_write_text(w, sku);
    msgpack_write_int(w, quantity);
    msgpack_write_int(w, unit_price);
    if (name != NULL) msgpack_write_text(w, name);
}

static void example_place_body(struct msgpack_writer *w) {
    msgpack_write_array(w, 9);
    msgpack_write_uint(w, FULFILMENT_PLATFORM_DELIVERY);
    msgpack_write_uint(w, PAYMENT_PREPAID);
    msgpack_write_text(w, "KRW");
    msgpack_write_text(w, "store-7");
    msgpack_write_array(w, 2);
    example_line(w, "bibimbap", 2, 9500, "비빔밥");
    example_line(w, "kimchi", 1, 2000, NULL);
    msgpack_write_int(w, 3000);
    msgpack_write_int(w, 1000);
    msgpack_write_int(w, 23000);
    msgpack_write_text(w, "customer-42");
}

static void example_place(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_PLACE, NULL);
    example_place_body(w);
}

/* Every optional field is there, a deadline, an expected version and a trace too. */
static void example_place_full(struct msgpack_writer *w) {
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_uint(w, 1767225605000);
    msgpack_write_array(w, 1);
    msgpack_write_array(w, 6);
    msgpack_write_uint(w, COMMAND_PLACE);
    msgpack_write_bin(w, wire_example_key.bytes, 16);
    msgpack_write_bin(w, wire_example_command_id.bytes, 16);
    msgpack_write_nil(w);
    msgpack_write_array(w, 15);
    msgpack_write_uint(w, FULFILMENT_PARCEL);
    msgpack_write_uint(w, PAYMENT_ON_DELIVERY);
    msgpack_write_text(w, "EUR");
    msgpack_write_text(w, "store-7");
    msgpack_write_array(w, 1);
    example_line(w, "lamp", 1, 1999, "a lamp");
    msgpack_write_int(w, 0);
    msgpack_write_int(w, 0);
    msgpack_write_int(w, 1999);
    msgpack_write_text(w, "customer-42");
    msgpack_write_text(w, "basket-9");
    msgpack_write_text(w, "W-1001");
    msgpack_write_bin(w, "\x81\xa1k\x01", 4);
    msgpack_write_uint(w, 600000);
    msgpack_write_uint(w, 300000);
    msgpack_write_uint(w, 86400000);
    msgpack_write_bin(w, wire_example_trace.bytes, 16);
}

static void example_pay(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_PAY, NULL);
    msgpack_write_array(w, 4);
    msgpack_write_uint(w, PAYMENT_CAPTURED);
    msgpack_write_text(w, "card");
    msgpack_write_text(w, "psp-881");
    msgpack_write_int(w, 23000);
}

static void example_accept(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_ACCEPT, NULL);
    msgpack_write_array(w, 1);
    msgpack_write_uint(w, 20);
}

static void example_reject(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_REJECT, NULL);
    msgpack_write_array(w, 1);
    msgpack_write_text(w, "closing early");
}

static void example_mark_ready(struct msgpack_writer *w) {
    example_alone(w, 3, COMMAND_MARK_READY, NULL);
}

static void example_assign_rider(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_ASSIGN_RIDER, NULL);
    msgpack_write_array(w, 1);
    msgpack_write_text(w, "rider-3");
}

static void example_unassign_rider(struct msgpack_writer *w) {
    example_alone(w, 3, COMMAND_UNASSIGN_RIDER, NULL);
}

static void example_pick_up(struct msgpack_writer *w) {
    example_alone(w, 3, COMMAND_PICK_UP, NULL);
}

static void example_deliver(struct msgpack_writer *w) {
    example_alone(w, 3, COMMAND_DELIVER, NULL);
}

static void example_complete(struct msgpack_writer *w) {
    example_alone(w, 3, COMMAND_COMPLETE, NULL);
}

static void example_cancel(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_CANCEL, NULL);
    msgpack_write_array(w, 2);
    msgpack_write_uint(w, PARTY_CUSTOMER);
    msgpack_write_text(w, "changed my mind");
}

static void example_cancel_lines(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_CANCEL, NULL);
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, PARTY_STORE);
    msgpack_write_text(w, "sold out");
    msgpack_write_array(w, 1);
    msgpack_write_array(w, 2);
    msgpack_write_uint(w, 0);
    msgpack_write_int(w, 1);
}

static void example_refund(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_REFUND, NULL);
    msgpack_write_array(w, 2);
    msgpack_write_int(w, 5000);
    msgpack_write_text(w, "cold");
}

static void example_amend(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_AMEND, NULL);
    msgpack_write_array(w, 4);
    msgpack_write_array(w, 1);
    example_line(w, "bibimbap", 1, 9500, NULL);
    msgpack_write_int(w, 3000);
    msgpack_write_int(w, 0);
    msgpack_write_int(w, 12500);
}

static void example_annotate(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_ANNOTATE, NULL);
    msgpack_write_array(w, 1);
    msgpack_write_text(w, "no peanuts");
}

static void example_get(struct msgpack_writer *w) { example_alone(w, 2, COMMAND_GET, NULL); }

static void example_history(struct msgpack_writer *w) {
    wire_example_open(w, 1);
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, COMMAND_HISTORY);
    msgpack_write_bin(w, wire_example_key.bytes, 16);
    msgpack_write_nil(w);
    msgpack_write_nil(w);
    msgpack_write_array(w, 1);
    msgpack_write_uint(w, 50);
}

static void example_store_pause(struct msgpack_writer *w) {
    example_alone(w, 5, COMMAND_STORE_PAUSE, "store-7");
    msgpack_write_array(w, 1);
    msgpack_write_text(w, "kitchen fire drill");
}

static void example_store_resume(struct msgpack_writer *w) {
    example_alone(w, 3, COMMAND_STORE_RESUME, "store-7");
}

static void example_store_get(struct msgpack_writer *w) {
    example_alone(w, 2, COMMAND_STORE_GET, "store-7");
}

static void example_cluster(struct msgpack_writer *w, unsigned kind, unsigned fields) {
    wire_example_open(w, 1);
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, kind);
    msgpack_write_nil(w);
    msgpack_write_bin(w, wire_example_command_id.bytes, 16);
    msgpack_write_nil(w);
    msgpack_write_array(w, fields);
}

static void example_cluster_form(struct msgpack_writer *w) {
    static const char *const addresses[] = {"tcp://10.0.0.1:7300", "tcp://10.0.0.1:7400",
                                            "tcp://10.0.0.2:7300", "tcp://10.0.0.2:7400",
                                            "tcp://10.0.0.3:7300", "tcp://10.0.0.3:7400"};
    static const uint8_t id[16] = {0xc1, [15] = 1};
    example_cluster(w, COMMAND_CLUSTER_FORM, 4);
    msgpack_write_bin(w, id, sizeof id);
    msgpack_write_array(w, 3);
    for (unsigned i = 0; i < 3; i++) {
        msgpack_write_array(w, 3);
        msgpack_write_uint(w, i + 1);
        msgpack_write_text(w, addresses[2 * i]);
        msgpack_write_text(w, addresses[2 * i + 1]);
    }
    msgpack_write_uint(w, 2);
    msgpack_write_uint(w, 3);
}

static void example_cluster_move(struct msgpack_writer *w) {
    example_cluster(w, COMMAND_CLUSTER_MOVE_REPLICA, 3);
    msgpack_write_uint(w, 1);
    msgpack_write_uint(w, 2);
    msgpack_write_uint(w, 4);
}

static void example_cluster_grow(struct msgpack_writer *w) {
    example_cluster(w, COMMAND_CLUSTER_GROW, 2);
    msgpack_write_uint(w, 6);
    msgpack_write_uint(w, 1767225900000);
}

static void example_cluster_get(struct msgpack_writer *w) {
    wire_example_open(w, 1);
    msgpack_write_array(w, 1);
    msgpack_write_uint(w, COMMAND_CLUSTER_GET);
}

static void example_node(struct msgpack_writer *w, unsigned kind) {
    wire_example_open(w, 1);
    msgpack_write_array(w, 1);
    msgpack_write_uint(w, kind);
}

static void example_ping(struct msgpack_writer *w) { example_node(w, NODE_COMMAND_PING); }

static void example_shard_map(struct msgpack_writer *w) { example_node(w, NODE_COMMAND_SHARD_MAP); }

static void example_status(struct msgpack_writer *w) { example_node(w, NODE_COMMAND_STATUS); }

static void example_cluster_document(struct msgpack_writer *w) {
    example_node(w, NODE_COMMAND_CLUSTER_DOCUMENT);
}

static void example_of_one_cluster(struct msgpack_writer *w) {
    static const uint8_t cluster_id[16] = {0x5d, 0x2f, [15] = 0x01};
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_nil(w);
    msgpack_write_array(w, 1);
    wire_example_command(w, 3, COMMAND_MARK_READY, NULL);
    msgpack_write_nil(w);
    msgpack_write_bin(w, cluster_id, sizeof cluster_id);
}

static void example_batch(struct msgpack_writer *w) {
    wire_example_open(w, 2);
    wire_example_command(w, 3, COMMAND_MARK_READY, NULL);
    wire_example_command(w, 2, COMMAND_GET, NULL);
}

const struct wire_example wire_examples_requests[] = {
    {"place", example_place},
    {"place, every field", example_place_full},
    {"pay", example_pay},
    {"accept", example_accept},
    {"reject", example_reject},
    {"mark_ready", example_mark_ready},
    {"assign_rider", example_assign_rider},
    {"unassign_rider", example_unassign_rider},
    {"pick_up", example_pick_up},
    {"deliver", example_deliver},
    {"complete", example_complete},
    {"cancel, whole", example_cancel},
    {"cancel, lines", example_cancel_lines},
    {"refund", example_refund},
    {"amend", example_amend},
    {"annotate", example_annotate},
    {"get", example_get},
    {"history", example_history},
    {"store_pause", example_store_pause},
    {"store_resume", example_store_resume},
    {"store_get", example_store_get},
    {"cluster_form", example_cluster_form},
    {"cluster_move_replica", example_cluster_move},
    {"cluster_grow", example_cluster_grow},
    {"cluster_get", example_cluster_get},
    {"ping", example_ping},
    {"shard_map", example_shard_map},
    {"status", example_status},
    {"cluster_document", example_cluster_document},
    {"batch", example_batch},
    {"of one cluster", example_of_one_cluster},
};
const unsigned wire_examples_requests_count =
    sizeof wire_examples_requests / sizeof *wire_examples_requests;
