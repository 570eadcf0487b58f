/* A cluster that is formed from a node alone: what each first replica has on its disk afterwards,
 * and what is left of that when its stored state is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/node/seed.h"
#include "persistence/consensus.h"
#include "tests/unit/persistence/storage_fixture.h"

enum { NODES = 3, RECORDS = 20, SHARD = 0 };

static const uint64_t servers[NODES] = {1, 2, 3};
static const char *const addresses[NODES] = {"1", "2", "3"};

struct world { char data[NODES][128]; };

static int setup(void **state) {
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    for (int i = 0; i < NODES; i++) {
        snprintf(w->data[i], sizeof w->data[i], "/tmp/jumun-seed-XXXXXX");
        assert_non_null(mkdtemp(w->data[i]));
    }
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    for (int i = 0; i < NODES; i++) fixture_remove_tree(w->data[i]);
    free(w);
    return 0;
}

static struct fixture *replica(const struct world *w, int node) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->directory, sizeof f->directory, "%.100s/shard-%d", w->data[node], SHARD);
    f->options = (struct storage_lmdb_options){.directory = f->directory, .shard = SHARD};
    fixture_open(f);
    return f;
}

static void replica_end(struct fixture *f) {
    fixture_close(f);
    free(f);
}

static void append(struct fixture *f, struct record *record) {
    uint64_t index = record->header.index;
    f->storage->ops->append(f->storage, record);
    fixture_wait64(f, &f->appended_index, index);
}

/* Node 1 has been alone for `term` terms and was stopped in order: its marker is at the end. */
static void be_alone(const struct world *w, uint64_t term) {
    struct fixture *f = replica(w, 0);
    struct record *first = consensus_bootstrap_record(servers, addresses, 1);
    struct checkpoint c = {.applied_index = RECORDS, .applied_term = term,
                           .configuration_index = 1};
    f->storage->ops->save_vote(f->storage, term, 1);
    uint8_t configuration[512];
    c.configuration_bytes = first->header.payload_bytes;
    memcpy(configuration, first->payload, c.configuration_bytes);
    c.configuration = configuration;
    append(f, first);
    fixture_append(f, 2, RECORDS, term, 64, 1500);
    f->storage->ops->checkpoint(f->storage, &c);
    fixture_wait(f, &f->checkpointed, 1);
    replica_end(f);
}

static void carry_from(const struct world *from, const struct world *w, int to) {
    static uint8_t piece[1 << 20];
    char error[512] = "";
    uint64_t offset = 0, total = 1;
    while (offset < total) {
        uint32_t bytes;
        if (seed_read(from->data[0], SHARD, offset, piece, sizeof piece, &bytes, &total, error,
                      sizeof error) != 0 ||
            seed_write(w->data[to], SHARD, offset, total, bytes_of(piece, bytes), error,
                       sizeof error) != 0)
            fail_msg("%s", error);
        offset += bytes;
    }
}

static void carry(const struct world *w, int to) { carry_from(w, w, to); }

static void adopt(const struct world *w, int node) {
    char error[512] = "";
    if (seed_adopt(w->data[node], SHARD, servers, NODES, node == 0, error, sizeof error) != 0)
        fail_msg("%s", error);
}

static void form(const struct world *w) {
    for (int i = 1; i < NODES; i++) carry(w, i);
    for (int i = 0; i < NODES; i++) adopt(w, i);
}

/* -- what is on the disk ----------------------------------------------------------------------- */

struct seen { struct record_header header; uint8_t payload[512]; };

static bool see(void *arg, const struct record_header *h, const void *payload) {
    struct seen *seen = arg;
    seen->header = *h;
    assert_true(h->payload_bytes <= sizeof seen->payload);
    memcpy(seen->payload, payload, h->payload_bytes);
    return true;
}

/* The log's last record. */
static struct seen newest(struct fixture *f, uint64_t last) {
    struct seen seen = {.header = {.index = 0}};
    int rc = f->storage->ops->read(f->storage, last, last, see, &seen, f->error, sizeof f->error);
    if (rc != 0) fail_msg("%s", f->error);
    return seen;
}

static void expect_formed(const struct world *w, int node, uint64_t marker, uint64_t term) {
    struct record *wanted = consensus_bootstrap_record(servers, addresses, NODES);
    struct fixture *f = replica(w, node);
    struct storage_meta *m = fixture_meta(f);
    struct seen seen = newest(f, marker + 1);
    assert_int_equal(m->applied_index, marker);
    assert_int_equal(m->log_last, marker + 1);
    assert_int_equal(seen.header.index, marker + 1);
    assert_int_equal(seen.header.type, RECORD_CONFIGURATION);
    assert_int_equal(seen.header.term, term);
    assert_true(m->term >= term);
    assert_int_equal(m->voted_for, 0);
    assert_int_equal(seen.header.payload_bytes, wanted->header.payload_bytes);
    assert_memory_equal(seen.payload, wanted->payload, wanted->header.payload_bytes);
    assert_int_equal(m->configuration_bytes, wanted->header.payload_bytes);
    assert_memory_equal(m->configuration, wanted->payload, wanted->header.payload_bytes);
    free(m);
    replica_end(f);
    record_release(wanted);
}

/* -- starting from it -------------------------------------------------------------------------- */

struct entries { struct consensus_entry list[RECORDS + 8]; uint64_t count; };

static bool collect(void *arg, const struct record_header *h, const void *payload) {
    struct entries *e = arg;
    void *copy = malloc(h->payload_bytes + 1);
    assert_non_null(copy);
    memcpy(copy, payload, h->payload_bytes);
    e->list[e->count++] =
        (struct consensus_entry){h->term, h->type, copy, h->payload_bytes};
    return true;
}

/* What it is a moment after a start, before it has heard of anybody; 0 = the start is refused. */
static uint8_t role_at_start(struct fixture *f, uint64_t id, bool of_cluster) {
    const struct consensus_options options = {.id = id, .address = "x",
                                              .election_timeout_ms = 500, .heartbeat_ms = 50};
    struct storage_meta *m = fixture_meta(f);
    struct entries e = {.count = 0};
    struct consensus_update update = {0};
    assert_int_equal(m->applied_index, 0); /* it is rebuilt */
    int rc = f->storage->ops->read(f->storage, 1, m->log_last, collect, &e, f->error,
                                   sizeof f->error);
    if (rc != 0) fail_msg("%s", f->error);
    const struct consensus_start start = {.term = m->term, .voted_for = m->voted_for,
                                          .first_index = 1, .entries = e.list,
                                          .entries_count = e.count, .of_cluster = of_cluster};
    struct consensus *c = consensus_new(&options);
    rc = consensus_start(c, &start, &update, f->error, sizeof f->error);
    uint8_t role = rc == 0 ? consensus_role(c) : 0;
    while (update.records) {
        struct record *r = update.records;
        update.records = r->next;
        record_release(r);
    }
    consensus_free(c);
    for (uint64_t i = 0; i < e.count; i++) free((void *)(uintptr_t)e.list[i].payload);
    free(m);
    return role;
}

static void lose_state(const struct world *w, int node) {
    char path[256];
    snprintf(path, sizeof path, "%s/shard-%d/state", w->data[node], SHARD);
    fixture_remove_tree(path);
}

/* -- tests ------------------------------------------------------------------------------------- */

static void test_all_have_the_same_behind_their_state(void **state) {
    const struct world *w = *state;
    be_alone(w, 4);
    form(w);
    for (int i = 0; i < NODES; i++) expect_formed(w, i, RECORDS, 5);
}

/* Its log begins with record 1, in which it is the only voter. */
static void test_a_lost_state_does_not_make_it_alone_again(void **state) {
    const struct world *w = *state;
    be_alone(w, 4);
    form(w);
    lose_state(w, 0);
    struct fixture *f = replica(w, 0);
    assert_int_equal(role_at_start(f, 1, true), CONSENSUS_FOLLOWER);
    assert_int_equal(role_at_start(f, 1, false), CONSENSUS_FOLLOWER);
    replica_end(f);
}

/* One that was formed by an earlier version has the voters in its lost state alone. */
static void test_a_log_that_names_one_voter_is_refused(void **state) {
    const struct world *w = *state;
    be_alone(w, 4);
    lose_state(w, 0);
    struct fixture *f = replica(w, 0);
    assert_int_equal(role_at_start(f, 1, false), CONSENSUS_LEADER);
    assert_int_equal(role_at_start(f, 1, true), 0);
    assert_non_null(strstr(f->error, "it could lead alone"));
    replica_end(f);
}

static void test_it_may_be_repeated(void **state) {
    const struct world *w = *state;
    be_alone(w, 4);
    form(w);
    for (int i = 0; i < NODES; i++) adopt(w, i);
    for (int i = 0; i < NODES; i++) expect_formed(w, i, RECORDS, 5);
}

/* A kill between the install of the state and what follows: the seed is gone. */
static void test_an_installed_state_is_gone_on_with(void **state) {
    const struct world *w = *state;
    char seed[256], error[512] = "";
    be_alone(w, 4);
    form(w);
    struct fixture *f = replica(w, 1);
    snprintf(seed, sizeof seed, "%s/again", w->data[1]);
    atomic_bool stop = false;
    struct storage_meta *m = calloc(1, sizeof *m);
    assert_non_null(m);
    assert_int_equal(f->storage->ops->export_state(f->storage, seed, &stop, m, f->error,
                                                   sizeof f->error), 0);
    replica_end(f);
    snprintf(error, sizeof error, "%s/shard-%d", w->data[1], SHARD);
    fixture_remove_tree(error);
    f = replica(w, 1);
    if (f->storage->ops->install_state(f->storage, seed, 0, f->error, sizeof f->error) != 0)
        fail_msg("%s", f->error);
    replica_end(f);
    free(m);
    adopt(w, 1);
    for (int i = 0; i < NODES; i++) expect_formed(w, i, RECORDS, 5);
}

/* A kill between the record and the marker that names the voters as well. */
static void test_a_record_without_its_marker_is_gone_on_with(void **state) {
    const struct world *w = *state;
    be_alone(w, 4);
    for (int i = 1; i < NODES; i++) carry(w, i);
    struct fixture *f = replica(w, 0);
    struct record *record = consensus_bootstrap_record(servers, addresses, NODES);
    record->header.index = RECORDS + 1;
    record->header.term = 5;
    f->storage->ops->save_vote(f->storage, 5, 0);
    append(f, record);
    replica_end(f);
    for (int i = 0; i < NODES; i++) adopt(w, i);
    for (int i = 0; i < NODES; i++) expect_formed(w, i, RECORDS, 5);
}

/* The first node got as far as this and no further: all begin anew with what it has now. */
static void test_it_may_be_begun_anew(void **state) {
    const struct world *w = *state;
    be_alone(w, 4);
    carry(w, 1);
    carry(w, 2);
    adopt(w, 0);
    form(w);
    for (int i = 0; i < NODES; i++) expect_formed(w, i, RECORDS + 1, 6);
}

/* A start that ended before its barrier: the term that was stored is above that of the log. */
static void test_a_term_without_a_record_does_not_tell_them_apart(void **state) {
    const struct world *w = *state;
    be_alone(w, 4);
    struct fixture *f = replica(w, 0);
    f->storage->ops->save_vote(f->storage, 9, 1);
    replica_end(f);
    form(w);
    for (int i = 0; i < NODES; i++) expect_formed(w, i, RECORDS, 5);
}

/* Node 1 was to begin with what another node alone had, which ends at the same place. */
static void test_another_forming_is_not_gone_on_with(void **state) {
    const struct world *w = *state;
    struct world other = {.data = {"/tmp/jumun-seed-XXXXXX"}};
    char error[512] = "";
    assert_non_null(mkdtemp(other.data[0]));
    be_alone(w, 4);
    be_alone(&other, 4);
    struct fixture *f = replica(&other, 0);
    struct id128 key = fixture_key(1, 1);
    uint8_t *block = fixture_block(ACTOR_ORDER, &key, 100, 'x');
    struct checkpoint_item item = {.key = key, .kind = ACTOR_ORDER, .bytes = 100};
    struct storage_meta *m = fixture_meta(f);
    struct checkpoint c = {.applied_index = m->applied_index, .applied_term = m->applied_term,
                           .configuration_index = m->configuration_index,
                           .configuration = m->configuration,
                           .configuration_bytes = m->configuration_bytes, .items = &item,
                           .items_count = 1, .blocks = block, .blocks_bytes = 104};
    f->storage->ops->checkpoint(f->storage, &c);
    fixture_wait(f, &f->checkpointed, 1);
    free(block);
    free(m);
    replica_end(f);
    carry_from(&other, w, 1);
    adopt(w, 1);
    carry_from(w, w, 1);
    assert_int_equal(seed_adopt(w->data[1], SHARD, servers, NODES, false, error, sizeof error), -1);
    assert_non_null(strstr(error, "broken off"));
    /* And the same one is. */
    carry_from(&other, w, 1);
    adopt(w, 1);
    expect_formed(w, 1, RECORDS, 5);
    fixture_remove_tree(other.data[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_all_have_the_same_behind_their_state),
        TEST(test_a_lost_state_does_not_make_it_alone_again),
        TEST(test_a_log_that_names_one_voter_is_refused),
        TEST(test_it_may_be_repeated),
        TEST(test_an_installed_state_is_gone_on_with),
        TEST(test_a_record_without_its_marker_is_gone_on_with),
        TEST(test_it_may_be_begun_anew),
        TEST(test_another_forming_is_not_gone_on_with),
        TEST(test_a_term_without_a_record_does_not_tell_them_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
