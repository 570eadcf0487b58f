/* Two keepers that know each other: a newer document goes from one to the other, to its disk, and
 * is made true; what is older, of another cluster or wrong is not. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engine/cluster/cluster_keeper.h"
#include "engine/wire/cluster_encode.h"
#include "tests/unit/cluster/cluster_documents.h"

struct side {
    char directory[64];
    struct local_shards shards;       /* the meta group is not here */
    struct cluster_keeper *keeper;
    struct cluster_cache cache;
    struct side *other;
    uint32_t node;
    atomic_uint applied, failures, version;
};

static struct side sides[2];

static int apply(void *arg, struct cluster_topology *t, char *error, size_t error_bytes) {
    struct side *s = arg;
    if (atomic_load(&s->failures) > 0) {
        atomic_fetch_sub(&s->failures, 1);
        snprintf(error, error_bytes, "not now");
        return -1;
    }
    atomic_store(&s->version, (unsigned)t->version);
    atomic_fetch_add(&s->applied, 1);
    free(t);
    return 0;
}

/* Other nodes are one function call away. */
static bool send_to_other(void *arg, uint32_t node, uint32_t kind, struct bytes body) {
    struct side *s = arg;
    assert_int_equal(node, s->other->node);
    /* A copy: the answer comes while the one who asks holds nothing. */
    void *copy = malloc(body.size);
    memcpy(copy, body.data, body.size);
    cluster_keeper_received(s->other->keeper, s->node, kind, bytes_of(copy, body.size));
    free(copy);
    return true;
}

static void open_side(struct side *s, struct side *other, uint32_t node, uint64_t version) {
    memset(s, 0, sizeof *s);
    s->other = other;
    s->node = s->cache.node = node;
    s->cache.version = version;
    cluster_document_example(&s->cache.document);
    if (version > 1) s->cache.document.nodes[2].state = CLUSTER_MEMBER_DRAINING;
    snprintf(s->directory, sizeof s->directory, "/tmp/jumun-keeper-XXXXXX");
    assert_non_null(mkdtemp(s->directory));
    const struct cluster_keeper_options options = {.directory = s->directory, .shards = &s->shards,
                                                   .apply = apply, .send = send_to_other, .arg = s};
    s->keeper = cluster_keeper_new(&options, &s->cache);
    assert_non_null(s->keeper);
}

static int setup_waiting(void **unused) {
    open_side(&sides[0], &sides[1], 1, 1);
    open_side(&sides[1], &sides[0], 2, 4);
    return 0;
}

static int setup(void **unused) {
    char error[256];
    setup_waiting(unused);
    for (int i = 0; i < 2; i++)
        if (cluster_keeper_start(sides[i].keeper, error, sizeof error) != 0) return -1;
    return 0;
}

static int teardown(void **unused) {
    for (int i = 0; i < 2; i++) cluster_keeper_stop(sides[i].keeper);
    for (int i = 0; i < 2; i++) {
        char path[96];
        cluster_keeper_free(sides[i].keeper);
        snprintf(path, sizeof path, "%.60s/cluster.msgpack", sides[i].directory);
        unlink(path);
        if (rmdir(sides[i].directory) != 0) return -1;
    }
    return 0;
}

static void await_version(const struct side *s, unsigned version) {
    for (int i = 0; i < 10000 && atomic_load(&s->version) != version; i++) usleep(1000);
    assert_int_equal(atomic_load(&s->version), version);
}

static void await_on_disk(const struct side *s, uint64_t version, uint32_t replicas) {
    static struct cluster_cache loaded;
    char error[256];
    for (int i = 0; i < 10000; i++) {
        if (cluster_cache_load(s->directory, &loaded, error, sizeof error) == 1 &&
            loaded.version == version && loaded.replicas_count == replicas)
            return;
        usleep(1000);
    }
    fail_msg("version %u is not on disk", (unsigned)version);
}

static void a_newer_document_is_asked_for_and_taken(void **unused) {
    await_version(&sides[0], 1); /* what the disk had is made true first */
    cluster_keeper_hello(sides[0].keeper, 2, 4);
    await_version(&sides[0], 4);
    await_on_disk(&sides[0], 4, 3);
    uint32_t bytes, other_bytes;
    void *mine = cluster_keeper_encode(sides[0].keeper, &bytes);
    void *others = cluster_keeper_encode(sides[1].keeper, &other_bytes);
    assert_int_equal(bytes, other_bytes);
    assert_memory_equal(mine, others, bytes);
    free(mine);
    free(others);
}

static void what_fails_is_tried_again(void **unused) {
    await_version(&sides[0], 1);
    atomic_store(&sides[0].failures, 1);
    cluster_keeper_hello(sides[0].keeper, 2, 4);
    await_version(&sides[0], 4);
    assert_int_equal(atomic_load(&sides[0].failures), 0);
}

static void offer(struct side *s, uint64_t version, const struct cluster_document *d) {
    static uint8_t encoded[CLUSTER_ENCODED_BYTES_MAX];
    struct msgpack_writer w;
    msgpack_writer_init(&w, encoded, sizeof encoded);
    cluster_encode(&w, version, d);
    cluster_keeper_received(s->keeper, 9, CLUSTER_KIND_DOCUMENT,
                            bytes_of(encoded, msgpack_writer_size(&w)));
}

static void nothing_else_is_taken(void **unused) {
    struct cluster_document d;
    cluster_document_example(&d);
    await_version(&sides[1], 4);
    offer(&sides[1], 3, &d);                       /* older */
    d.cluster_id.bytes[0] ^= 1;
    offer(&sides[1], 7, &d);                       /* of another cluster */
    cluster_keeper_received(sides[1].keeper, 9, CLUSTER_KIND_DOCUMENT, bytes_of_text("\x81"));
    cluster_keeper_received(sides[1].keeper, 9, CLUSTER_KIND_ASK, bytes_of_text("\xc1"));
    cluster_keeper_received(sides[1].keeper, 9, 77, bytes_of_text("x"));
    d.cluster_id.bytes[0] ^= 1;
    offer(&sides[1], 5, &d);                       /* the next one */
    await_version(&sides[1], 5);
    assert_int_equal(atomic_load(&sides[1].applied), 2);
}

/* Also while it is written to: read at a place of its own. */
static uint32_t lines_with(FILE *log, const char *words) {
    char line[1024], path[32];
    uint32_t count = 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(log));
    FILE *own = fopen(path, "r");
    assert_non_null(own);
    while (fgets(line, sizeof line, own)) count += strstr(line, words) != NULL;
    fclose(own);
    return count;
}

static void start_side(struct side *s) {
    char error[256] = "";
    if (cluster_keeper_start(s->keeper, error, sizeof error) != 0) fail_msg("%s", error);
}

/* Which replicas have run here is what keeps one that lost its disk from voting anew. */
static void replicas_that_could_not_be_noted_are_noted_later(void **unused) {
    struct side *s = &sides[1];
    char away[80];
    snprintf(away, sizeof away, "%.60s-away", s->directory);
    assert_int_equal(rename(s->directory, away), 0);
    start_side(s);
    start_side(&sides[0]);
    for (int i = 0; i < 10000 && atomic_load(&s->applied) < 2; i++) usleep(1000);
    assert_int_equal(rename(away, s->directory), 0);
    await_on_disk(s, 4, 3);
}

/* Others tell of the newer document all the time, and each time it cannot be written. */
static void a_full_disk_is_told_once_and_its_end_too(void **unused) {
    struct side *s = &sides[1];
    char away[80];
    struct cluster_document d;
    FILE *log = tmpfile();
    int stderr_saved = dup(STDERR_FILENO);
    cluster_document_example(&d);
    await_version(s, 4);
    await_on_disk(s, 4, 3);
    snprintf(away, sizeof away, "%.60s-away", s->directory);
    assert_non_null(log);
    assert_true(dup2(fileno(log), STDERR_FILENO) >= 0);
    assert_int_equal(rename(s->directory, away), 0);
    for (int i = 0; i < 10000 && lines_with(log, "cluster.msgpack: No such file") == 0; i++) {
        offer(s, 5, &d);
        usleep(1000);
    }
    for (int i = 0; i < 30; i++) {
        offer(s, 5, &d);
        usleep(10000);
    }
    assert_int_equal(rename(away, s->directory), 0);
    for (int i = 0; i < 10000 && atomic_load(&s->version) != 5; i++) {
        offer(s, 5, &d);
        usleep(1000);
    }
    assert_true(dup2(stderr_saved, STDERR_FILENO) >= 0);
    close(stderr_saved);
    assert_int_equal(atomic_load(&s->version), 5);
    assert_int_equal(lines_with(log, "cluster.msgpack: No such file"), 1);
    assert_int_equal(lines_with(log, "can be written again"), 1);
    fclose(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_newer_document_is_asked_for_and_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(what_fails_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_else_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(replicas_that_could_not_be_noted_are_noted_later,
                                        setup_waiting, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_told_once_and_its_end_too, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
