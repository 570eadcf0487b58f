#include "storage_install_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/clock.h"

const char *file_path(const struct fixture *f, const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", f->directory, name);
    return path;
}

void vote(struct fixture *f, uint64_t term) {
    f->storage->ops->save_vote(f->storage, term, 1);
}

static bool visit_count(void *arg, const struct record_header *h, const void *payload) {
    ++*(uint64_t *)arg;
    return true;
}

void expect_unread(struct fixture *f, uint64_t a, uint64_t b, const char *part) {
    uint64_t count = 0;
    f->error[0] = 0;
    assert_int_equal(f->storage->ops->read(f->storage, a, b, visit_count, &count, f->error,
                                           sizeof f->error), -1);
    if (!strstr(f->error, part)) fail_msg("\"%s\" does not say \"%s\"", f->error, part);
}

void expect_log(struct fixture *f, uint64_t first, uint64_t last) {
    struct storage_meta *meta = fixture_meta(f);
    assert_int_equal(meta->log_first, first);
    assert_int_equal(meta->log_last, last);
    free(meta);
}

void expect_gap(struct fixture *f, uint64_t gaps, uint64_t first, uint64_t last) {
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_int_equal(stats.gaps, gaps);
    assert_int_equal(stats.gap_first, first);
    assert_int_equal(stats.gap_last, last);
    assert_true(gaps > 1 ? stats.gap_records > last - first + 1
                : gaps == 1 ? stats.gap_records == last - first + 1 : stats.gap_records == 0);
}

void make_file(struct fixture *f, const char *path, uint64_t marker, uint8_t fill) {
    struct fixture other = {.options = f->options};
    struct storage_memory *memory = NULL;
    if (f->memory) {
        memory = storage_memory_new(&(struct storage_memory_options){
            .seed = 9, .shard = 3, .files = storage_memory_files(f->memory)});
        other.memory = memory;
    } else {
        int n = snprintf(other.directory, sizeof other.directory, "%.100s/other-XXXXXX",
                         f->directory);
        assert_true(n < (int)sizeof other.directory && mkdtemp(other.directory));
        other.options.directory = other.directory;
    }
    other.options.fault = NULL;
    fixture_open(&other);
    vote(&other, marker / 10 + 1);
    fixture_append(&other, 1, marker + 3, 1, 64, 1000);
    struct draft *d = draft_new(marker);
    draft_put(d, ACTOR_ORDER, fixture_key(7000, 1), 300, fill);
    draft_put(d, ACTOR_ORDER, fixture_key(8000, 2), 90000, fill)->new_deadline_ms = 5000;
    draft_put(d, ACTOR_STORE, fixture_key(1, 1), 64, fill);
    d->cursors[d->checkpoint.cursors_count++] =
        (struct checkpoint_cursor){.name = "stores", .bytes = 8, .value = "1234567"};
    uint8_t configuration[40] = {1};
    d->checkpoint.configuration = configuration;
    d->checkpoint.configuration_bytes = sizeof configuration;
    d->checkpoint.configuration_index = 1;
    draft_do(&other, d);
    struct storage_meta *meta = calloc(1, sizeof *meta);
    if (other.storage->ops->export_state(other.storage, path, NULL, meta, f->error,
                                         sizeof f->error) != 0) {
        fail_msg("%s", f->error);
    }
    assert_int_equal(meta->applied_index, marker);
    assert_int_equal(meta->orders_count, 2);
    assert_int_equal(meta->log_first, 0);
    assert_int_equal(meta->log_last, 0);
    free(meta);
    fixture_close(&other);
    if (memory) storage_memory_free(memory);
    else fixture_remove_tree(other.directory);
}

void expect_installed(struct fixture *f, uint64_t marker, uint8_t fill) {
    struct storage_meta *meta = fixture_meta(f);
    assert_int_equal(meta->applied_index, marker);
    assert_int_equal(meta->applied_term, marker / 10 + 1);
    assert_int_equal(meta->configuration_index, 1);
    assert_int_equal(meta->configuration_bytes, 40);
    assert_int_equal(meta->orders_count, 2);
    assert_int_equal(meta->stores_count, 1);
    assert_int_equal(meta->orders_birth_max_ms, 8000);
    free(meta);
    expect_actor(f, ACTOR_ORDER, fixture_key(7000, 1), 300, fill);
    expect_actor(f, ACTOR_ORDER, fixture_key(8000, 2), 90000, fill);
    expect_actor(f, ACTOR_STORE, fixture_key(1, 1), 64, fill);
    expect_no_actor(f, ACTOR_ORDER, fixture_key(100, 1));
}

void wait_dropped(struct fixture *f, uint64_t first) {
    int64_t until_ms = clock_mono_ms() + 60000;
    struct storage_stats stats;
    for (;;) { /* in LMDB it is queued */
        f->storage->ops->stats(f->storage, &stats);
        if (stats.log_first >= first) return;
        if (clock_mono_ms() > until_ms)
            fail_msg("after a minute it begins with %llu", (unsigned long long)stats.log_first);
        usleep(100);
    }
}

int install(struct fixture *f, const char *path, uint64_t committed) {
    f->error[0] = 0;
    return f->storage->ops->install_state(f->storage, path, committed, f->error, sizeof f->error);
}

void follower_open(struct fixture *f) {
    fixture_open(f);
    vote(f, 100);
    fixture_append(f, 1, 40, 1, 64, 1000);
    struct draft *d = draft_new(20);
    draft_put(d, ACTOR_ORDER, fixture_key(100, 1), 300, 'o')->new_deadline_ms = 77;
    draft_do(f, d);
}

uint8_t *packed(uint64_t first, uint64_t last, uint64_t term, uint32_t payload_bytes,
                int64_t time_ms, size_t *bytes) {
    size_t each = (sizeof(struct record_header) + payload_bytes + 7) / 8 * 8;
    uint8_t *out = calloc(last - first + 1, each);
    assert_non_null(out);
    *bytes = 0;
    for (uint64_t index = first; index <= last; index++, *bytes += each) {
        struct record *r = fixture_record(index, term, payload_bytes, time_ms);
        record_seal(&r->header, r->payload);
        memcpy(out + *bytes, &r->header, sizeof r->header);
        memcpy(out + *bytes + sizeof r->header, r->payload, payload_bytes);
        record_release(r);
    }
    return out;
}

enum storage_filled fill(struct fixture *f, uint64_t first, uint64_t last, uint64_t term,
                         uint32_t payload_bytes) {
    size_t bytes;
    uint8_t *records = packed(first, last, term, payload_bytes, 1500, &bytes);
    f->error[0] = 0;
    enum storage_filled outcome = f->storage->ops->fill(f->storage, records, bytes, f->error,
                                                        sizeof f->error);
    free(records);
    return outcome;
}
