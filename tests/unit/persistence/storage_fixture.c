#include "storage_fixture.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"

static int fixture_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

void fixture_remove_tree(const char *path) {
    nftw(path, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    const char *base = getenv("TMPDIR");
    snprintf(f->directory, sizeof f->directory, "%s/jumun-storage-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory)) return -1;
    f->options = (struct storage_lmdb_options){.directory = f->directory, .shard = 3,
                                               .room_floor_bytes = 1};
    *state = f;
    return 0;
}

int fixture_setup_memory(void **state) {
    if (fixture_setup(state) != 0) return -1;
    struct fixture *f = *state;
    f->memory = storage_memory_new(&(struct storage_memory_options){
        .seed = 5, .shard = 3, .append_ms_max = 3, .checkpoint_ms_max = 3, .load_ms_max = 3});
    return 0;
}

int fixture_teardown(void **state) {
    struct fixture *f = *state;
    fixture_close(f);
    if (f->memory) {
        const char *fault = storage_memory_fault(f->memory);
        if (fault) fail_msg("%s", fault);
        storage_memory_free(f->memory);
    }
    fixture_remove_tree(f->directory);
    free(f);
    return 0;
}

void fixture_open(struct fixture *f) {
    f->storage = f->memory ? storage_memory_open(f->memory)
                           : storage_lmdb_open(&f->options, f->error, sizeof f->error);
    if (!f->storage) fail_msg("%s", f->error);
}

void fixture_close(struct fixture *f) {
    if (f->storage) f->storage->ops->close(f->storage);
    f->storage = NULL;
}

void fixture_reopen(struct fixture *f) {
    fixture_close(f);
    fixture_open(f);
}

bool fixture_poll(struct fixture *f) {
    struct storage_event events[7]; /* fewer than there often are */
    if (f->memory) storage_memory_advance(f->memory, ++f->memory_ms);
    uint32_t n = f->storage->ops->poll(f->storage, events, 7);
    for (uint32_t i = 0; i < n; i++) {
        const struct storage_event *e = &events[i];
        switch (e->kind) {
        case STORAGE_APPENDED:
            f->appended_index = e->index;
            f->appended_sequence = e->sequence;
            break;
        case STORAGE_LOG_FULL: f->full++; break;
        case STORAGE_LOG_ROOM: f->room++; break;
        case STORAGE_CHECKPOINTED:
            if (e->ok) f->checkpointed++;
            else f->checkpoints_failed++;
            break;
        case STORAGE_LOADED:
        case STORAGE_TIMER_LOADED:
            assert_true(f->loaded_count < sizeof f->loaded / sizeof *f->loaded);
            f->loaded[f->loaded_count++] = *e;
            break;
        default: fail_msg("event kind %u", e->kind);
        }
    }
    return n > 0;
}

static void fixture_pause(struct fixture *f, int64_t until_ms) {
    if (fixture_poll(f)) return;
    if (clock_mono_ms() > until_ms) fail_msg("nothing came for a minute");
    if (!f->memory) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

void fixture_wait64(struct fixture *f, const uint64_t *counter, uint64_t wanted) {
    int64_t until_ms = clock_mono_ms() + 60000;
    while (*counter < wanted) fixture_pause(f, until_ms);
}

void fixture_wait(struct fixture *f, const unsigned *counter, unsigned wanted) {
    int64_t until_ms = clock_mono_ms() + 60000;
    while (*counter < wanted) fixture_pause(f, until_ms);
}

void *fixture_share(size_t bytes) {
    void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    return shared;
}

void fixture_nap(void) { nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

void fixture_await(const atomic_bool *flag) {
    int64_t until_ms = clock_mono_ms() + 60000;
    while (!atomic_load(flag)) {
        if (clock_mono_ms() > until_ms) fail_msg("nothing came of it");
        fixture_nap();
    }
}

void fixture_await_end(pid_t child, int signal_number, int status) {
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(WIFSIGNALED(ended) ? WTERMSIG(ended) : 0, signal_number);
    if (signal_number == 0) assert_int_equal(WEXITSTATUS(ended), status);
}

static uint8_t fixture_byte(uint64_t index, uint64_t term, uint32_t i) {
    return (uint8_t)(index * 31 + term * 7 + i);
}

struct record *fixture_record(uint64_t index, uint64_t term, uint32_t payload_bytes,
                              int64_t time_ms) {
    struct record *r = record_new(payload_bytes);
    assert_non_null(r);
    r->header.index = index;
    r->header.term = term;
    r->header.type = RECORD_EVENTS;
    r->header.payload_bytes = payload_bytes;
    struct entry_header entry = {.time_ms = time_ms, .shard = 3};
    for (uint32_t i = 0; i < payload_bytes; i++) r->payload[i] = fixture_byte(index, term, i);
    if (payload_bytes >= sizeof entry) memcpy(r->payload, &entry, sizeof entry);
    return r;
}

struct record *fixture_records(uint64_t first, uint64_t last, uint64_t term,
                               uint32_t payload_bytes, int64_t time_ms) {
    struct record *head = NULL, **link = &head;
    for (uint64_t index = first; index <= last; index++) {
        *link = fixture_record(index, term, payload_bytes, time_ms);
        link = &(*link)->next;
    }
    return head;
}

void fixture_append(struct fixture *f, uint64_t first, uint64_t last, uint64_t term,
                    uint32_t payload_bytes, int64_t time_ms) {
    struct record *records = fixture_records(first, last, term, payload_bytes, time_ms);
    uint64_t sequence = f->storage->ops->append(f->storage, records);
    /* Numbers begin anew with each open. */
    if (sequence == 1) f->appended_sequence = 0;
    fixture_wait64(f, &f->appended_sequence, sequence);
    assert_true(f->appended_index == last);
}

bool fixture_is_sound(const struct record_header *h, const void *payload) {
    if ((uintptr_t)h % 8 != 0 || (uintptr_t)payload % 8 != 0) return false;
    for (uint32_t i = sizeof(struct entry_header); i < h->payload_bytes; i++) {
        if (((const uint8_t *)payload)[i] != fixture_byte(h->index, h->term, i)) return false;
    }
    return true;
}

struct fixture_expected { uint64_t next, term; };

static bool fixture_visit(void *arg, const struct record_header *h, const void *payload) {
    struct fixture_expected *expected = arg;
    assert_true(h->index == expected->next);
    assert_true(expected->term == 0 || h->term == expected->term);
    assert_true(fixture_is_sound(h, payload));
    expected->next++;
    return true;
}

void fixture_expect(struct fixture *f, uint64_t first, uint64_t last, uint64_t term) {
    struct fixture_expected expected = {first, term};
    int rc = f->storage->ops->read(f->storage, first, last, fixture_visit, &expected, f->error,
                                   sizeof f->error);
    if (rc != 0) fail_msg("%s", f->error);
    assert_true(expected.next == last + 1);
}

void *fixture_block(uint8_t kind, const struct id128 *key, uint32_t bytes, uint8_t fill) {
    uint8_t *block = malloc(bytes);
    assert_non_null(block);
    memset(block, fill, bytes);
    struct actor actor = {.bytes = bytes, .kind = kind, .schema = 1, .key = *key};
    memcpy(block, &actor, sizeof actor);
    return block;
}

struct id128 fixture_key(uint64_t birth_ms, uint64_t number) {
    struct id128 key = {{0}};
    for (int i = 0; i < 6; i++) key.bytes[i] = (uint8_t)(birth_ms >> (8 * (5 - i)));
    for (int i = 0; i < 8; i++) key.bytes[8 + i] = (uint8_t)(number >> (8 * (7 - i)));
    return key;
}

unsigned fixture_count_files(const struct fixture *f, const char *part) {
    unsigned count = 0;
    DIR *d = opendir(f->directory);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) count += strstr(entry->d_name, part) != NULL;
    closedir(d);
    return count;
}

struct storage_meta *fixture_meta(struct fixture *f) {
    struct storage_meta *meta = calloc(1, sizeof *meta);
    assert_non_null(meta);
    if (f->storage->ops->load_meta(f->storage, meta, f->error, sizeof f->error) != 0) {
        fail_msg("%s", f->error);
    }
    return meta;
}

struct draft *draft_new(uint64_t applied_index) {
    struct draft *d = calloc(1, sizeof *d);
    d->checkpoint = (struct checkpoint){.items = d->items, .blocks = d->blocks,
                                        .cursors = d->cursors, .applied_index = applied_index,
                                        .applied_term = applied_index / 10 + 1};
    return d;
}

struct checkpoint_item *draft_put(struct draft *d, uint8_t kind, struct id128 key,
                                         uint32_t bytes, uint8_t fill) {
    struct checkpoint *c = &d->checkpoint;
    struct checkpoint_item *item = &d->items[c->items_count++];
    *item = (struct checkpoint_item){.key = key, .kind = kind, .bytes = bytes,
                                     .offset = c->blocks_bytes};
    void *block = fixture_block(kind, &key, bytes, fill);
    memcpy(d->blocks + c->blocks_bytes, block, bytes);
    free(block);
    c->blocks_bytes += (bytes + 7) / 8 * 8;
    return item;
}

struct checkpoint_item *draft_remove(struct draft *d, uint8_t kind, struct id128 key) {
    struct checkpoint_item *item = &d->items[d->checkpoint.items_count++];
    *item = (struct checkpoint_item){.key = key, .kind = kind, .remove = true};
    return item;
}

void draft_do(struct fixture *f, struct draft *d) {
    f->storage->ops->checkpoint(f->storage, &d->checkpoint);
    fixture_wait(f, &f->checkpointed, f->checkpointed + 1);
    free(d);
}

void expect_actor(struct fixture *f, uint8_t kind, struct id128 key, uint32_t bytes, uint8_t fill) {
    void *block;
    uint32_t got;
    int rc = f->storage->ops->read_actor(f->storage, kind, &key, &block, &got, f->error,
                                         sizeof f->error);
    if (rc != 0) fail_msg("%s", f->error);
    assert_non_null(block);
    assert_int_equal(got, bytes);
    void *wanted = fixture_block(kind, &key, bytes, fill);
    assert_memory_equal(block, wanted, bytes);
    free(wanted);
    f->storage->ops->release_block(f->storage, block);
}

void expect_no_actor(struct fixture *f, uint8_t kind, struct id128 key) {
    void *block = f;
    uint32_t bytes;
    assert_int_equal(f->storage->ops->read_actor(f->storage, kind, &key, &block, &bytes, f->error,
                                                 sizeof f->error), 0);
    assert_null(block);
}
